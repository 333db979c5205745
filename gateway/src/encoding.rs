//! In which encoding a body comes: JSON in UTF-8 and nothing around it, or words that say what it is instead.
//!
//! Owns `Content-Encoding`, `charset` and the first bytes of a body. Refuses to decode anything: a few bytes
//! could become gigabytes.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::problem::{Kind, Problem};

/// HTTP-5: 415 for a body that says that it is compressed, or in another charset than UTF-8.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    let values =
        headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let given = values.collect::<Vec<_>>().join(", ");
    let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    if !given.split(',').map(str::trim).all(is_plain) {
        let detail = format!("the body is compressed (`Content-Encoding: {}`)", shortened(&given));
        return Err(Problem::new(
            Kind::BodyCompressed,
            detail,
            "send it uncompressed, without `Content-Encoding`",
        ));
    }
    let content_type = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match content_type.as_deref().and_then(other_charset) {
        None => Ok(()),
        Some(charset) => {
            let detail = format!("the body is in `{}`, and only UTF-8 is read", shortened(&charset));
            Err(Problem::new(
                Kind::BodyNotUtf8,
                detail,
                "send it in UTF-8, with `Content-Type: application/json`",
            ))
        }
    }
}

fn shortened(value: &str) -> String {
    value.chars().take(80).collect()
}

/// The first `charset` of a media type that is not UTF-8, nor a part of it.
fn other_charset(content_type: &str) -> Option<String> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parameters = content_type.split(|character: char| {
        let is_itself = std::mem::take(&mut is_escaped);
        is_escaped = is_quoted && character == '\\' && !is_itself;
        is_quoted ^= character == '"' && !is_itself;
        character == ';' && !is_quoted
    });
    let charsets = parameters.skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']).replace('\\', "");
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().to_ascii_lowercase())
    });
    let mut others =
        charsets.filter(|charset| !["", "utf-8", "utf8", "us-ascii", "ascii"].contains(&&**charset));
    others.next()
}

/// A body's text, without the byte order mark that some programs put before UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Problem> {
    if let Some(what) = appearance(bytes) {
        let detail = format!("the body is not valid JSON: it looks like {what}");
        return Err(Problem::new(Kind::BadJson, detail, "send JSON in UTF-8, uncompressed"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("the body is not valid JSON: byte {} is not UTF-8", error.valid_up_to());
        Problem::new(Kind::BadJson, detail, "send JSON in UTF-8, uncompressed")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What a body looks like that cannot be JSON in UTF-8: no document begins with these bytes.
fn appearance(bytes: &[u8]) -> Option<&'static str> {
    let by_signature = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature));
    by_signature.map(|(_, what)| *what).or(match bytes {
        // JSON begins with ASCII, which tells the width of a character.
        [0, 0, 0, (1..), ..] | [(1..), 0, 0, 0, ..] => Some("UTF-32"),
        [0, (1..), ..] | [(1..), 0, ..] => Some("UTF-16"),
        _ => None,
    })
}

/// Longer ones before those that they begin with.
const SIGNATURES: [(&[u8], &str); 14] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x78\x01", "deflate (zlib)"),
    (b"\x78\x5e", "deflate (zlib)"),
    (b"\x78\x9c", "deflate (zlib)"),
    (b"\x78\xda", "deflate (zlib)"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
];

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn verdict(headers: &[(HeaderName, &'static str)]) -> Option<(u16, &'static str, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        let problem = check(&map).err()?;
        Some((problem.status().as_u16(), problem.word(), problem.detail().to_owned()))
    }

    /// HTTP-5.
    #[test]
    fn a_body_that_says_that_it_is_compressed_is_refused_by_that_name() {
        for coding in
            ["gzip", "GZIP", "br", "x-gzip", "deflate", "zstd", "aws-chunked", "identity, gzip", "gzip, br"]
        {
            let (status, word, detail) = verdict(&[(CONTENT_ENCODING, coding)]).unwrap();
            assert_eq!((status, word), (415, "body_compressed"), "{coding}");
            assert!(detail.contains(coding), "{detail}");
        }
        let twice = verdict(&[(CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, "zstd")]).unwrap();
        assert!(twice.2.contains("zstd"), "{twice:?}");
        for plain in ["identity", "Identity", "", "identity, identity", " identity ,"] {
            assert_eq!(verdict(&[(CONTENT_ENCODING, plain)]), None, "{plain:?}");
        }
    }

    /// HTTP-5.
    #[test]
    fn another_charset_than_utf_8_is_refused_by_its_name() {
        for (content_type, charset) in [
            ("application/json; charset=utf-16", "utf-16"),
            ("application/json;charset=ISO-8859-1", "iso-8859-1"),
            ("application/json; a=b; Charset=\"windows-1252\"", "windows-1252"),
            ("application/json; a=\"x;charset=utf-8\\\";\"; charset = latin1", "latin1"),
            ("application/json; charset=utf-8; charset=utf-16le", "utf-16le"),
        ] {
            let (status, word, detail) = verdict(&[(CONTENT_TYPE, content_type)]).unwrap();
            assert_eq!((status, word), (415, "body_not_utf8"), "{content_type}");
            assert!(detail.contains(charset), "{detail}");
        }
        for content_type in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json; charset=\"UTF-8\"",
            "application/json; charset=Utf8 ;",
            "application/json; charset=us-ascii",
            "application/json; charset='utf-8'",
            "application/json; charset=",
            "application/json; x-charset=utf-16; a=\"; charset=utf-16\"",
        ] {
            assert_eq!(verdict(&[(CONTENT_TYPE, content_type)]), None, "{content_type}");
        }
    }

    /// HTTP-5.
    #[test]
    fn what_is_no_utf_8_is_told_by_what_it_looks_like() {
        let wide = |encode: fn(u16) -> [u8; 2], text: &str| {
            text.encode_utf16().flat_map(encode).collect::<Vec<u8>>()
        };
        for (bytes, what) in [
            (b"\x1f\x8b\x08\0\0".to_vec(), "gzip"),
            (b"\x28\xb5\x2f\xfd\x04".to_vec(), "zstd"),
            (b"\x78\x9c\xab".to_vec(), "deflate"),
            (wide(u16::to_le_bytes, "\u{feff}{}"), "UTF-16"),
            (wide(u16::to_be_bytes, "\u{feff}{}"), "UTF-16"),
            (wide(u16::to_le_bytes, "{}"), "UTF-16"),
            (wide(u16::to_be_bytes, " {}"), "UTF-16"),
            (b"{\0\0\0}\0\0\0".to_vec(), "UTF-32"),
            (b"{\"a\":\"gr\xfc\xdfe\"}".to_vec(), "byte 8 is not UTF-8"),
        ] {
            let problem = text(&bytes).unwrap_err();
            assert_eq!(problem.status(), 400);
            assert!(problem.detail().contains(what), "{}", problem.detail());
        }
        for plain in ["", "{}", "[", "3", "x", "{\"a\":\"\\u0000\"}"] {
            assert_eq!(text(plain.as_bytes()).unwrap(), plain);
            assert_eq!(text(format!("\u{feff}{plain}").as_bytes()).unwrap(), plain);
        }
    }
}
