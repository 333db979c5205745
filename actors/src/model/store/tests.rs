use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;

use arw_kit::moment::WallTime;
use tempfile::TempDir;

use super::*;
use crate::model::testkit::{GgufBuilder, GgufValue, sized_gguf, tiny_gguf};

const NOON: WallTime = WallTime::from_millis(1_700_000_000_000);

struct Fixture {
    folder: TempDir,
    store: ModelStore,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::open(folder.path().join("models")).unwrap();
    Fixture { folder, store }
}

impl Fixture {
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn import(&self, path: &Path, name: Option<&str>) -> Result<ModelRecord, ImportError> {
        self.store.import(path, name, NOON, &mut |_| ControlFlow::Continue(()))
    }

    /// A tiny model of that title, imported under its own name.
    fn have(&self, title: &str) -> ModelRecord {
        self.import(&self.file(&format!("{title}.gguf"), &tiny_gguf(title)), None).unwrap()
    }

    fn refused(&self, path: &Path) -> String {
        let error = self.import(path, None).unwrap_err().to_string();
        assert_eq!(self.left(), Vec::<String>::new(), "left behind after: {error}");
        error
    }

    /// What lies in the store, in order.
    fn left(&self) -> Vec<String> {
        self.store.file_names().unwrap().into_iter().collect()
    }

    fn again(&self) -> ModelStore {
        ModelStore::open(self.folder.path().join("models")).unwrap()
    }
}

#[test]
fn an_imported_model_is_found_by_name_and_by_hash() {
    let f = fixture();
    let bytes = tiny_gguf("tiny");
    let source = f.file("Tiny Model (v2).gguf", &bytes);
    let record = f.import(&source, None).unwrap();

    assert_eq!(record.name, "Tiny-Model-v2");
    assert_eq!(record.size_bytes, bytes.len() as u64);
    assert_eq!((record.architecture.as_str(), record.quantisation.as_str()), ("llama", "Q4_0"));
    assert_eq!((record.context_length, record.layers, record.chat_template), (Some(128), Some(2), true));
    assert_eq!(record.imported_at, NOON);
    assert_eq!(fs::read(f.store.path_of(&record)).unwrap(), bytes);
    assert!(source.exists(), "the source stays");

    let hash = record.sha256.as_str();
    for text in ["Tiny-Model-v2", &hash[..8], hash] {
        assert_eq!(f.store.find(text).unwrap().as_ref(), Some(&record), "{text}");
    }
    for text in ["tiny-model-v2", &hash[..7], "", "deadbeef", &hash.to_uppercase()] {
        assert_eq!(f.store.find(text).unwrap(), None, "{text}");
    }
    assert_eq!(f.again().list().unwrap(), std::slice::from_ref(&record));
    f.store.verify(&record).unwrap();
}

#[test]
fn the_hash_is_sha_256() {
    use sha2::{Digest, Sha256};
    let f = fixture();
    // Longer than several chunks, and not a multiple of one.
    let bytes = sized_gguf("large", (5 << 20) + 77);
    let record = f.import(&f.file("large.gguf", &bytes), None).unwrap();
    assert_eq!(record.sha256, ModelHash::from_digest(&Sha256::digest(&bytes).into()));
    assert_eq!(fs::read(f.store.path_of(&record)).unwrap(), bytes);
    f.store.verify(&record).unwrap();
}

#[test]
fn a_stored_file_is_read_only() {
    let f = fixture();
    let record = f.have("tiny");
    assert!(fs::metadata(f.store.path_of(&record)).unwrap().permissions().readonly());
}

#[test]
fn what_is_not_a_model_file_gets_a_clear_error_and_leaves_nothing() {
    let f = fixture();
    let at = f.folder.path();
    let whole = tiny_gguf("tiny");
    assert!(f.refused(&at.join("no.gguf")).contains("there is no file"));
    assert!(f.refused(at).contains("is a folder: name the .gguf file in it"));
    assert!(f.refused(&f.file("empty.gguf", b"")).contains("is empty: download it again"));
    assert!(f.refused(&f.file("page.gguf", b"<!DOCTYPE html>")).contains("an HTML page"));
    assert!(
        f.refused(&f.file("cut.gguf", &whole[..whole.len() - 1])).contains("truncated: the data of tensor")
    );
    assert!(f.refused(&f.file("head.gguf", &whole[..100])).contains("truncated"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_special_files_refused() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    let f = fixture();
    let at = f.folder.path();
    symlink(at.join("gone"), at.join("dangling.gguf")).unwrap();
    assert!(f.refused(&at.join("dangling.gguf")).contains("is a symbolic link to"));
    let _socket = UnixListener::bind(at.join("socket.gguf")).unwrap();
    assert!(f.refused(&at.join("socket.gguf")).contains("is not a regular file"));
    assert!(f.refused(Path::new("/dev/zero")).contains("is not a regular file"));

    // As in the Hugging Face cache: the link has the name, the file a hash.
    symlink(f.file("0a1b2c", &tiny_gguf("tiny")), at.join("linked.gguf")).unwrap();
    assert_eq!(f.import(&at.join("linked.gguf"), None).unwrap().name, "linked");
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let f = fixture();
    let path = f.file("secret.gguf", &tiny_gguf("tiny"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    assert!(f.refused(&path).contains("cannot read"));
}

#[test]
fn a_cancelled_import_leaves_nothing_wherever_it_is_cancelled() {
    let f = fixture();
    let source = f.file("large.gguf", &sized_gguf("large", 3 << 20));
    let calls = Cell::new(0);
    for cancel_at in 0.. {
        calls.set(0);
        let result = f.store.import(&source, None, NOON, &mut |_| {
            calls.set(calls.get() + 1);
            if calls.get() > cancel_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if result.is_ok() {
            assert!(cancel_at >= 5, "it was asked {cancel_at} times only");
            break;
        }
        assert!(matches!(result, Err(ImportError::Cancelled)));
        assert_eq!(f.left(), Vec::<String>::new(), "cancelled at call {cancel_at}");
    }
}

#[test]
fn progress_grows_to_the_length_of_the_file() {
    let f = fixture();
    let bytes = sized_gguf("large", 3 << 20);
    let source = f.file("large.gguf", &bytes);
    let mut seen = Vec::new();
    f.store
        .import(&source, None, NOON, &mut |p| {
            seen.push(p);
            ControlFlow::Continue(())
        })
        .unwrap();
    let total = bytes.len() as u64;
    assert!(seen.iter().all(|p| p.total_bytes == total));
    assert!(seen.windows(2).all(|w| w[0].done_bytes <= w[1].done_bytes), "{seen:?}");
    assert_eq!(seen.first().map(|p| (p.phase, p.done_bytes)), Some((ImportPhase::Copying, 0)));
    assert_eq!(seen.last().map(|p| (p.phase, p.done_bytes)), Some((ImportPhase::Flushing, total)));
}

/// Imports `source` and does `meddle` once while it is being read.
fn meddled(f: &Fixture, source: &Path, meddle: impl Fn(&Path)) -> String {
    let done = Cell::new(false);
    let error = f.store.import(source, None, NOON, &mut |_| {
        if !done.replace(true) {
            meddle(source);
        }
        ControlFlow::Continue(())
    });
    let error = error.unwrap_err().to_string();
    assert_eq!(f.left(), Vec::<String>::new(), "left behind after: {error}");
    error
}

#[test]
fn a_source_that_changes_while_it_is_read_is_refused() {
    let f = fixture();
    let bytes = sized_gguf("large", 3 << 20);
    let changed = "changed while it was read";

    let source = f.file("grows.gguf", &bytes);
    let said = meddled(&f, &source, |path| {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    });
    assert!(said.contains(changed) && said.contains("wait until its download has finished"), "{said}");

    let source = f.file("shrinks.gguf", &bytes);
    assert!(
        meddled(&f, &source, |path| {
            OpenOptions::new().write(true).open(path).unwrap().set_len(2 << 20).unwrap();
        })
        .contains(changed)
    );

    // Of the same length, as a download into a preallocated file.
    let source = f.file("flips.gguf", &bytes);
    assert!(
        meddled(&f, &source, |path| {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(b"GGUF").unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        })
        .contains(changed)
    );
}

#[test]
fn a_source_that_disappears_while_it_is_read_is_imported_whole() {
    let f = fixture();
    let source = f.file("gone.gguf", &sized_gguf("large", 3 << 20));
    let record = f
        .store
        .import(&source, None, NOON, &mut |_| {
            let _ = fs::remove_file(&source);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(!source.exists());
    f.store.verify(&record).unwrap();
}

#[test]
fn the_same_content_again_changes_nothing() {
    let f = fixture();
    let first = f.have("tiny");
    let mut phases = Vec::new();
    let other_name = f.file("renamed.gguf", &tiny_gguf("tiny"));
    let later = NOON + std::time::Duration::from_secs(60);
    let again = f.store.import(&other_name, None, later, &mut |p| {
        phases.push(p.phase);
        ControlFlow::Continue(())
    });
    assert_eq!(again.unwrap(), first);
    assert!(phases.iter().all(|p| *p == ImportPhase::Comparing), "nothing is copied: {phases:?}");
    assert_eq!(f.store.list().unwrap(), [first]);
}

#[test]
fn another_content_of_the_same_length_is_another_model() {
    let f = fixture();
    f.have("aaaa");
    f.have("bbbb");
    assert_eq!(f.store.list().unwrap().len(), 2);
}

#[test]
fn known_content_gets_a_wanted_name_as_an_alias() {
    let f = fixture();
    let first = f.have("tiny");
    let source = f.folder.path().join("tiny.gguf");
    let again = f.import(&source, Some("chat")).unwrap();
    assert_eq!((again.name.as_str(), again.aliases.as_slice()), ("tiny", ["chat".to_owned()].as_slice()));
    assert_eq!(f.import(&source, Some("chat")).unwrap(), again, "twice changes nothing");
    assert_eq!(f.store.find("chat").unwrap().unwrap().sha256, first.sha256);
    assert_eq!(f.store.list().unwrap(), [again]);
}

#[test]
fn a_name_belongs_to_one_content() {
    let f = fixture();
    let first = f.have("tiny");
    f.import(&f.folder.path().join("tiny.gguf"), Some("chat")).unwrap();
    let other = f.file("other.gguf", &tiny_gguf("other title"));
    for taken in ["tiny", "chat"] {
        let error = f.import(&other, Some(taken)).unwrap_err();
        let ImportError::NameTaken { name, sha256 } = &error else { panic!("{error}") };
        assert_eq!((name.as_str(), sha256), (taken, &first.sha256));
        assert!(error.to_string().contains("choose another name"));
    }
    f.import(&other, None).unwrap();
    let error = f.import(&other, Some("chat")).unwrap_err();
    assert!(
        matches!(error, ImportError::NameTaken { .. }),
        "known content may not take a name either: {error}"
    );
}

#[test]
fn a_part_of_a_split_model_comes_with_the_command_that_joins_it_and_the_parts_that_are_missing() {
    let f = fixture();
    let part = GgufBuilder::model("tiny").key("split.count", GgufValue::U16(3)).build();
    let named = |name: &str| f.file(name, &part);
    let second = named("big-00002-of-00003.gguf");
    let (first, third) =
        (second.with_file_name("big-00001-of-00003.gguf"), second.with_file_name("big-00003-of-00003.gguf"));
    let error = f.import(&second, None).unwrap_err();
    let said = format!(
        "{} is one of 3 parts of a split model; missing: {}, {}",
        second.display(),
        first.display(),
        third.display()
    );
    assert_eq!(error.to_string(), said);
    assert!(
        error.help().starts_with("download the missing parts beside it, then join them"),
        "{}",
        error.help()
    );
    named("big-00001-of-00003.gguf");
    named("big-00003-of-00003.gguf");
    let error = f.import(&second, None).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is one of 3 parts of a split model", second.display()));
    let command = format!(
        "llama-gguf-split --merge {} {}",
        first.display(),
        second.with_file_name("big.gguf").display()
    );
    assert!(error.help().ends_with(&command), "{}", error.help());
    // Whatever it is called.
    let error = f.import(&named("odd.gguf"), None).unwrap_err();
    assert!(error.help().contains("--merge FIRST-PART OUTPUT"), "{}", error.help());
}

#[test]
fn a_bad_name_is_refused_before_anything_is_read() {
    let f = fixture();
    let error = f.import(Path::new("/nowhere"), Some("../x")).unwrap_err();
    assert!(matches!(error, ImportError::BadName(_)), "{error}");
}

#[test]
fn a_file_name_becomes_a_valid_name() {
    let named = |path: &str| import::default_name(Path::new(path));
    assert_eq!(named("/x/SmolLM2-135M-Instruct.Q4_1.gguf"), "SmolLM2-135M-Instruct.Q4_1");
    assert_eq!(named("My Model — (final).gguf"), "My-Model-final");
    assert_eq!(named(".gguf"), "gguf");
    assert_eq!(named("模型.gguf"), "model");
    assert_eq!(named(&format!("{}.gguf", "x".repeat(200))).len(), 64);
    assert_eq!(named(".."), "model");
}

#[test]
fn one_of_several_names_is_removed_alone() {
    let f = fixture();
    let first = f.have("tiny");
    let source = f.folder.path().join("tiny.gguf");
    f.import(&source, Some("chat")).unwrap();
    let Removed::Name(left) = f.store.remove("tiny").unwrap() else { panic!("the file went too") };
    assert_eq!((left.name.as_str(), left.aliases.len()), ("chat", 0));
    assert!(f.store.path_of(&first).exists());
    assert!(matches!(f.store.remove("chat").unwrap(), Removed::Model(_)));
    assert_eq!(f.left(), Vec::<String>::new());
}

#[test]
fn by_its_hash_a_model_goes_with_all_its_names() {
    let f = fixture();
    let first = f.have("tiny");
    f.import(&f.folder.path().join("tiny.gguf"), Some("chat")).unwrap();
    assert!(matches!(f.store.remove(&first.sha256.as_str()[..10]).unwrap(), Removed::Model(_)));
    assert_eq!(f.left(), Vec::<String>::new());
}

#[test]
fn removing_an_unknown_name_lists_the_known_ones() {
    let f = fixture();
    assert!(
        f.store.remove("x").unwrap_err().to_string().contains("there are no models yet: `arw model import")
    );
    f.have("one");
    f.have("two");
    f.import(&f.folder.path().join("two.gguf"), Some("deux")).unwrap();
    let said = f.store.remove("three").unwrap_err().to_string();
    assert_eq!(said, "no model is called `three`; there are: deux, one, two");
}

#[test]
fn a_changed_file_is_found_by_verify() {
    let f = fixture();
    let record = f.have("tiny");
    let path = f.store.path_of(&record);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(&path).unwrap();
    assert!(matches!(f.store.verify(&record), Err(VerifyError::Read { .. })));
    fs::write(&path, bytes).unwrap();
    let said = f.store.verify(&record).unwrap_err().to_string();
    assert!(
        said.contains("model tiny is damaged") && said.contains("remove it and import it again"),
        "{said}"
    );
}

#[test]
fn a_damaged_manifest_is_reported_and_harms_no_other_model() {
    let f = fixture();
    let good = f.have("good");
    let bad = f.have("bad");
    let manifest = f.store.manifest_path(&bad.sha256);
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut changed = whole.clone();
        changed[key] = value;
        changed.to_string()
    };
    let cases = [
        (String::new(), "damaged"),
        ("{".to_owned(), "damaged"),
        ("[1]".to_owned(), "damaged"),
        (with("schema", 2.into()), "a newer arw wrote it"),
        (with("schema", 0.into()), "schema 0"),
        (with("name", "../x".into()), "not a valid name"),
        (with("sha256", "00".into()), "not a SHA-256"),
        (with("sha256", good.sha256.as_str().into()), "the manifest is about"),
        (with("size_bytes", 5.into()), "bytes instead of 5"),
        (with("imported_at", "noon".into()), "not a time"),
        (" ".repeat(70_000), "longer than 65536 bytes"),
    ];
    for (text, expected) in cases {
        fs::write(&manifest, text).unwrap();
        assert_eq!(f.again().list().unwrap(), std::slice::from_ref(&good), "{expected}");
        let damaged = f.store.list_damaged().unwrap();
        assert_eq!(damaged.len(), 1);
        assert!(damaged[0].reason.contains(expected), "{}", damaged[0].reason);
        assert_eq!(damaged[0].path, manifest);
    }
    fs::write(&manifest, with("size_bytes", whole["size_bytes"].clone())).unwrap();
    fs::remove_file(f.store.path_of(&bad)).unwrap();
    assert!(f.store.list_damaged().unwrap()[0].reason.contains("the model file is missing"));
}

#[test]
fn a_damaged_model_is_repaired_by_importing_it_again() {
    let f = fixture();
    let record = f.have("tiny");
    fs::write(f.store.manifest_path(&record.sha256), "{").unwrap();
    assert_eq!(f.have("tiny"), record);
    assert_eq!(f.store.list_damaged().unwrap(), []);
}

#[test]
fn a_damaged_model_is_removed_by_its_hash() {
    let f = fixture();
    let record = f.have("tiny");
    fs::write(f.store.manifest_path(&record.sha256), "{").unwrap();
    assert!(matches!(f.store.remove("tiny"), Err(RemoveError::NotFound { .. })));
    assert_eq!(f.store.remove(&record.sha256.as_str()[..8]).unwrap(), Removed::Damaged(record.sha256));
    assert_eq!(f.left(), Vec::<String>::new());
}

#[test]
fn a_manifest_of_a_later_arw_with_more_fields_is_read() {
    let f = fixture();
    let record = f.have("tiny");
    let path = f.store.manifest_path(&record.sha256);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(manifest["schema"], 1);
    manifest["licence"] = "MIT".into();
    fs::write(&path, manifest.to_string()).unwrap();
    assert_eq!(f.store.list().unwrap(), [record]);
}

#[test]
fn what_dead_imports_left_is_swept_and_living_ones_are_left_alone() {
    let f = fixture();
    let kept = f.have("kept");
    let living = f.store.files().join(".import-1-living.part");
    let holder = fs::File::create(&living).unwrap();
    holder.lock().unwrap();
    let orphan = "ab".repeat(32);
    for name in [".import-1-dead.part", &orphan, &format!("{orphan}.json.new"), "README"] {
        fs::write(f.store.files().join(name), "x").unwrap();
    }
    f.again();
    let hash = kept.sha256.as_str();
    let mut expected =
        vec![".import-1-living.part".to_owned(), "README".into(), hash.into(), format!("{hash}.json")];
    expected.sort();
    assert_eq!(f.left(), expected);
    drop(holder);
    f.again();
    assert!(!living.exists(), "its importer has died since");
}

#[test]
fn opening_the_store_does_not_disturb_an_import() {
    let f = fixture();
    let source = f.file("large.gguf", &sized_gguf("large", 3 << 20));
    let record = f
        .store
        .import(&source, None, NOON, &mut |_| {
            f.again();
            ControlFlow::Continue(())
        })
        .unwrap();
    f.store.verify(&record).unwrap();
}

#[test]
fn many_importers_at_once_agree() {
    let f = fixture();
    let titles = ["a", "b", "a", "c", "a", "b"];
    let sources: Vec<PathBuf> = titles
        .iter()
        .enumerate()
        .map(|(i, title)| f.file(&format!("{title}-{i}.gguf"), &sized_gguf(title, 1 << 20)))
        .collect();
    std::thread::scope(|scope| {
        for source in &sources {
            scope.spawn(|| {
                let store = f.again();
                store.import(source, None, NOON, &mut |_| ControlFlow::Continue(())).unwrap();
            });
        }
    });
    let records = f.store.list().unwrap();
    assert_eq!(records.len(), 3);
    for record in &records {
        f.store.verify(record).unwrap();
    }
    assert_eq!(f.left().len(), 6, "three files, three manifests: {:?}", f.left());
}

#[test]
fn two_contents_at_once_under_one_name_give_one_model() {
    let f = fixture();
    let sources = [f.file("a.gguf", &sized_gguf("a", 1 << 20)), f.file("b.gguf", &sized_gguf("b", 1 << 20))];
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = sources.iter().map(|s| scope.spawn(|| f.import(s, Some("same")))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(results.iter().any(|r| matches!(r, Err(ImportError::NameTaken { .. }))));
    assert_eq!(f.left().len(), 2, "{:?}", f.left());
}

#[test]
fn content_that_somebody_else_imported_meanwhile_keeps_its_record() {
    let f = fixture();
    let source = f.file("slow.gguf", &sized_gguf("large", 1 << 20));
    let faster = f.file("fast.gguf", &sized_gguf("large", 1 << 20));
    let mut first = None;
    let record = f.store.import(&source, None, NOON, &mut |p| {
        if p.phase == ImportPhase::Flushing && first.is_none() {
            first = Some(f.import(&faster, None).unwrap());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(record.unwrap().name, "fast");
    assert_eq!(Some(f.store.list().unwrap()), first.map(|r| vec![r]));
    assert_eq!(f.left().len(), 2, "{:?}", f.left());
}

#[test]
fn the_beginning_of_two_hashes_finds_neither() {
    let f = fixture();
    let model = f.have("tiny");
    // Hashes are taken at their word until they are verified, so two that begin alike can be made.
    for end in ["aa", "bb"] {
        let hash: ModelHash = format!("0123456789{}", end.repeat(27)).parse().unwrap();
        fs::copy(f.store.path_of(&model), f.store.file_path(&hash)).unwrap();
        let record = ModelRecord { name: end.to_owned(), sha256: hash, ..model.clone() };
        f.store.write_manifest(&record).unwrap();
    }
    assert_eq!(f.store.find("0123456789").unwrap(), None);
    assert_eq!(f.store.find("0123456789a").unwrap().map(|r| r.name).as_deref(), Some("aa"));
    assert!(f.store.remove("0123456789").is_err());
    assert_eq!(f.store.list().unwrap().len(), 3);
}

#[test]
fn waiting_for_the_lock_has_an_end() {
    let f = fixture();
    let path = f.folder.path().join("models/lock");
    let held = StoreLock::take(&path).unwrap();
    let error = StoreLock::take_within(&path, 2).unwrap_err();
    assert!(error.to_string().contains("another arw process has held"), "{error}");
    drop(held);
    StoreLock::take_within(&path, 1).unwrap();
}

#[test]
fn a_store_that_cannot_be_made_says_where_and_why() {
    let f = fixture();
    let blocked = f.file("file", b"").join("models");
    let said = ModelStore::open(&blocked).unwrap_err().to_string();
    assert!(said.contains("cannot create") && said.contains("file/models"), "{said}");
}

#[test]
fn space_is_asked_for_with_a_margin() {
    let ask = |free| content::enough_space(Path::new("/models"), 1_000, free);
    assert!(ask(1_000 + content::SPACE_MARGIN_BYTES).is_ok());
    let said = ask(999 + content::SPACE_MARGIN_BYTES).unwrap_err().to_string();
    assert!(said.contains("the model takes 1000 bytes") && said.contains("arw model rm"), "{said}");
}

#[test]
fn a_full_disk_is_not_an_ordinary_write_error() {
    let full = content::write_error(Path::new("/models/x"), io::ErrorKind::StorageFull.into());
    assert!(matches!(full, ImportError::DiskFull { .. }));
    let other = content::write_error(Path::new("/models/x"), io::ErrorKind::BrokenPipe.into());
    assert!(matches!(other, ImportError::Write { .. }));
}
