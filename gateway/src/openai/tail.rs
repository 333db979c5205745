//! The end of a stream's answer: what an engine says in the usage chunk besides usage.
//!
//! Some engines move what they tell of a finished answer (llama.cpp: `timings`) from the chunk with the
//! finish reason into the usage chunk where they are asked for one. Who did not ask gets no usage chunk, so
//! that it goes back to where it would have been. Owns which members those are. Refuses to decide which chunk
//! is which (`relay.rs` does).

use std::collections::HashSet;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::event::Event;

/// What makes a usage chunk one. Everything else in it is more than was asked for.
const USAGE_ITSELF: [&str; 2] = ["choices", "usage"];

/// HTTP-13: the members of a usage chunk's data that the event `last` lacks, and where in that event they go.
pub(super) fn carried(last: &[u8], usage: &[u8]) -> Option<(usize, Vec<u8>)> {
    let event = Event::read(last);
    let data = &event.data.as_ref()?.text;
    let mut known: HashSet<String> = members(data)?.into_iter().map(|(name, _)| name).collect();
    let mut text = Vec::new();
    for (name, value) in members(usage)? {
        if USAGE_ITSELF.contains(&name.as_str()) || !known.insert(name.clone()) {
            continue;
        }
        text.push(b',');
        text.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes());
        text.push(b':');
        // A line end is only a blank to JSON, and would end the event's line.
        text.extend(value.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    }
    let brace = data.iter().rposition(|&byte| byte == b'}').filter(|_| !text.is_empty())?;
    Some((event.place(&(brace..brace + 1))?.start, text))
}

/// An object's members in order; `None` where it is none.
fn members(json: &[u8]) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_slice::<Members<'_>>(json).ok().map(|members| members.0)
}

struct Members<'b>(Vec<(String, &'b RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        input.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(last: &str, usage: &str) -> String {
        match carried(last.as_bytes(), usage.as_bytes()) {
            None => last.to_owned(),
            Some((at, text)) => format!("{}{}{}", &last[..at], String::from_utf8(text).unwrap(), &last[at..]),
        }
    }

    /// HTTP-13.
    #[test]
    fn what_the_usage_chunk_adds_goes_behind_the_last_member() {
        let usage = "{\"choices\":[],\"id\":\"x\",\"usage\":{\"a\":1},\"timings\":{\"n\":1.50,\"m\":[\"}\\n\"]},\"\\u006e\":null}";
        for (last, expected) in [
            (
                "data: {\"id\":\"c\",\"choices\":[{\"x\":{}}]}\n\n",
                "data: {\"id\":\"c\",\"choices\":[{\"x\":{}}],\"timings\":{\"n\":1.50,\"m\":[\"}\\n\"]},\"n\":null}\n\n",
            ),
            (
                "data: {\"choices\":[1],\r\ndata: \"id\":\"c\" } \r\n\r\n",
                "data: {\"choices\":[1],\r\ndata: \"id\":\"c\" ,\"timings\":{\"n\":1.50,\"m\":[\"}\\n\"]},\"n\":null} \r\n\r\n",
            ),
            // What the chunk says itself stays.
            (
                "data: {\"id\":1,\"timings\":null,\"n\":0}\n\n",
                "data: {\"id\":1,\"timings\":null,\"n\":0}\n\n",
            ),
            ("data: [DONE]\n\n", "data: [DONE]\n\n"),
            (": nothing\n\n", ": nothing\n\n"),
        ] {
            assert_eq!(with(last, usage), expected);
        }
    }

    /// As many members as an event holds.
    #[test]
    fn a_usage_chunk_of_very_many_members_costs_each_of_them_once() {
        let all: Vec<String> = (0..60_000).map(|number| format!("\"{number}\":1")).collect();
        let usage = format!("{{{},{}}}", all.join(","), all.join(","));
        let put = with("data: {\"0\":0}\n\n", &usage);
        assert_eq!(put, format!("data: {{\"0\":0,{}}}\n\n", all[1..].join(",")));
    }

    #[test]
    fn a_member_of_several_lines_becomes_one_line() {
        assert_eq!(
            with("data: {\"id\":1}\n\n", "{\"t\":{\n\r\n\"a\": 1\n}}"),
            "data: {\"id\":1,\"t\":{   \"a\": 1 }}\n\n"
        );
    }
}
