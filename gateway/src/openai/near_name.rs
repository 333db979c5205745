//! The model that somebody meant who named one that there is not.
//!
//! Other servers call the same model by other names: with a provider before it, a tag or a file's ending
//! behind it, in other case. Owns which known name is near enough to ask "did you mean". Refuses to take it
//! for the one that was asked for.

/// More than any name has: comparing takes time for each pair of characters.
const NAME_BYTES_MAX: usize = 200;
/// Names whose lengths differ by more than this have more differences than a slip of the hand makes.
const LENGTHS_APART_MAX: usize = 6;

/// The known name nearest to one that is not known.
pub(super) fn nearest<'k>(asked: &str, known: &'k [String]) -> Option<&'k str> {
    // A name that is known is refused for another reason than a slip.
    if asked.len() > NAME_BYTES_MAX || known.iter().any(|name| name == asked) {
        return None;
    }
    let asked = forms(asked);
    let all: Vec<_> = known.iter().map(|name| (name.as_str(), forms(name))).collect();
    // What both mean without the least of what may differ.
    let same = (0..asked.len()).find_map(|form| all.iter().find(|(_, forms)| forms[form] == asked[form]));
    let [.., asked] = &asked;
    if asked.is_empty() {
        return None;
    }
    let near = || {
        let near = |form: &&str| form.len().abs_diff(asked.len()) <= LENGTHS_APART_MAX;
        let candidates = all.iter().map(|(_, [.., form])| form.as_str()).filter(near);
        let near = arw_actors::config::nearest(asked, candidates)?;
        all.iter().find(|(_, [.., form])| *form == near)
    };
    same.or_else(near).map(|(name, _)| *name)
}

/// A name without what servers write differently: each form without more than the one before.
fn forms(name: &str) -> [String; 4] {
    let plain = name.trim().to_lowercase();
    let file = plain.strip_suffix(".gguf").unwrap_or(&plain);
    let model = file.trim_end_matches('/').rsplit('/').next().unwrap_or(file);
    let untagged = model.split(':').next().unwrap_or(model);
    let untagged = untagged.strip_suffix(".gguf").unwrap_or(untagged);
    [&plain, file, model, untagged].map(|form| form.replace(|letter: char| !letter.is_alphanumeric(), "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(asked: &str, known: &[&str]) -> Option<String> {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        nearest(asked, &known).map(str::to_owned)
    }

    /// HTTP-10.
    #[test]
    fn names_that_other_servers_use_and_slips_of_the_hand_are_near() {
        let known = ["SmolLM2-135M.Q4_1", "smollm2", "org/large:13b", "org/large:7b", "Qwen3-8B.Q4_1"];
        for (asked, meant) in [
            ("SMOLLM2", "smollm2"),
            ("smollm2.gguf", "smollm2"),
            ("openai/smollm2", "smollm2"),
            ("smollm2:latest", "smollm2"),
            ("ollama/SmolLM2.gguf:latest", "smollm2"),
            (" smollm2\n", "smollm2"),
            ("smolm2", "smollm2"),
            ("smollm2/", "smollm2"),
            ("box9/smollm2", "smollm2"),
            ("smollm2-135m-q4-1", "SmolLM2-135M.Q4_1"),
            ("models/SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q4_1"),
            ("large:7b", "org/large:7b"),
            ("large", "org/large:13b"),
            ("org/large-13b", "org/large:13b"),
            ("qwen3-8b.q4_0", "Qwen3-8B.Q4_1"),
        ] {
            assert_eq!(near(asked, &known).as_deref(), Some(meant), "{asked:?}");
        }
    }

    #[test]
    fn what_has_nothing_in_common_is_not_near() {
        let known = ["SmolLM2-135M.Q4_1", "smollm2", "r1"];
        let long = "smollm2".repeat(100);
        for asked in ["gpt-4o", "llama.Q4_1", "", "/", "???", "claude", "smollm2", &long] {
            assert_eq!(near(asked, &known), None, "{asked:?}");
        }
        assert_eq!(near("smollm2", &[]), None);
    }
}
