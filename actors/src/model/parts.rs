//! The files of a model that was split: `big-00001-of-00003.gguf`, `big-00002-of-00003.gguf` and so on, in
//! one folder.
//!
//! Owns the form of their names. Refuses to join them.

use std::path::{Path, PathBuf};

/// More parts than any model has.
const PARTS_MAX: u32 = 1000;

/// All parts of the model that `part` is one of, in order, itself among them; `None` where its name is not
/// that of a part.
pub(crate) fn all_of(part: &Path) -> Option<Vec<PathBuf>> {
    let (base, count) = base_and_count(part)?;
    let ending = part.extension().map_or_else(String::new, |ending| format!(".{}", ending.to_string_lossy()));
    let name = |number: u32| format!("{base}-{number:05}-of-{count:05}{ending}");
    Some((1..=count).map(|number| part.with_file_name(name(number))).collect())
}

/// What the joined file would be called, beside its parts.
pub(super) fn joined(part: &Path) -> Option<PathBuf> {
    let (base, _) = base_and_count(part)?;
    let ending = part.extension().unwrap_or("gguf".as_ref()).to_string_lossy();
    Some(part.with_file_name(format!("{base}.{ending}")))
}

fn base_and_count(part: &Path) -> Option<(&str, u32)> {
    let (rest, count) = part.file_stem()?.to_str()?.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = (digits(number) && digits(count)).then(|| count.parse().ok())??;
    (count <= PARTS_MAX).then_some((base, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_leads_to_the_others_and_to_the_whole() {
        let part = Path::new("/m/a-big-00002-of-00003.gguf");
        let all = all_of(part).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], Path::new("/m/a-big-00001-of-00003.gguf"));
        assert!(all.iter().any(|path| path == part));
        assert_eq!(joined(part).unwrap(), Path::new("/m/a-big.gguf"));
        // As downloads without an ending are called.
        let bare = Path::new("/m/big-00001-of-00002");
        assert_eq!(all_of(bare).unwrap(), [bare, Path::new("/m/big-00002-of-00002")]);
        for whole in
            ["/m/big.gguf", "/m/x-2-of-3.gguf", "/m/x-00001-of-99999.gguf", "/m/one-of-a-kind.gguf", "/"]
        {
            assert_eq!((all_of(Path::new(whole)), joined(Path::new(whole))), (None, None), "{whole}");
        }
    }
}
