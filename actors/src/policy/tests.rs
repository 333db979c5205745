use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use arw_kit::moment::WallTime;
use proptest::prelude::*;

use super::*;
use crate::journal::{Journal, JournalOptions};
use crate::store::{Fault, Store, StoreOptions};

const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);
const PATIENCE: Duration = Duration::from_secs(20);

fn open(folder: &Path) -> (Store, Journal, Tokens) {
    let store = Store::open(&folder.join("arw.db"), StoreOptions::default()).unwrap();
    let journal = Journal::open(store.clone(), JournalOptions::default()).unwrap();
    let tokens = Tokens::open(store.clone(), journal.clone()).unwrap();
    (store, journal, tokens)
}

fn infer() -> BTreeSet<Scope> {
    [Scope::Infer].into()
}

#[tokio::test]
async fn a_token_lets_in_until_it_is_revoked_and_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal, tokens) = open(folder.path());
    let scopes: BTreeSet<Scope> = [Scope::Infer, Scope::RuntimeManage].into();
    let (row, text) = tokens.create("laptop", scopes.clone(), None, NOW).await.unwrap();
    let (_, other) = tokens.create("other", infer(), None, NOW).await.unwrap();
    assert_eq!(row.scopes, scopes);
    store.close(PATIENCE).await.unwrap();
    drop((store, journal, tokens));

    let (store, journal, tokens) = open(folder.path());
    let granted = tokens.verify(text.reveal(), NOW).unwrap();
    assert_eq!((&*granted.id, &*granted.name, &*granted.scopes), (&*row.id, "laptop", &scopes));
    assert!(granted.allows(Scope::RuntimeManage) && !granted.allows(Scope::Admin));
    let revoked = tokens.revoke(&row.id, NOW + Duration::from_secs(5)).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(NOW + Duration::from_secs(5)));
    assert_eq!(
        tokens.revoke(&row.id, NOW + Duration::from_secs(9)).await.unwrap(),
        revoked,
        "twice changes nothing"
    );
    assert_eq!(tokens.verify(text.reveal(), NOW), Err(Refusal::Revoked));
    let kinds: Vec<String> = journal
        .replay(None, 10, None)
        .await
        .unwrap()
        .events
        .iter()
        .map(|record| record.event.kind().to_owned())
        .collect();
    assert_eq!(kinds, ["token_created", "token_created", "token_revoked"]);
    store.close(PATIENCE).await.unwrap();
    drop((store, journal, tokens));

    let (_store, _journal, tokens) = open(folder.path());
    assert_eq!(tokens.verify(text.reveal(), NOW), Err(Refusal::Revoked));
    assert!(tokens.verify(other.reveal(), NOW).is_ok());
}

#[tokio::test]
async fn a_token_is_refused_from_the_moment_it_expires() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _journal, tokens) = open(folder.path());
    let (row, text) = tokens.create("short", infer(), Some(Duration::from_secs(60)), NOW).await.unwrap();
    assert_eq!(row.expires_at, Some(NOW + Duration::from_secs(60)));
    assert!(tokens.verify(text.reveal(), NOW + Duration::from_millis(59_999)).is_ok());
    assert_eq!(tokens.verify(text.reveal(), NOW + Duration::from_secs(60)), Err(Refusal::Expired));
}

#[tokio::test]
async fn a_wrong_secret_is_as_unknown_as_a_wrong_id() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _journal, tokens) = open(folder.path());
    let (row, text) = tokens.create("laptop", infer(), None, NOW).await.unwrap();
    let text = text.reveal();
    let last = if text.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{last}", &text[..text.len() - 1]);
    assert_eq!(tokens.verify(&wrong, NOW), Err(Refusal::Unknown));
    assert_eq!(tokens.verify(&text.replace(&row.id, "00000000"), NOW), Err(Refusal::Unknown));
    let long = "a".repeat(100_000);
    for malformed in [
        "",
        "arw_",
        "arw__",
        "bearer",
        &text[..text.len() - 1],
        &format!("{text} "),
        &text.to_uppercase(),
        &long,
    ] {
        assert_eq!(tokens.verify(malformed, NOW), Err(Refusal::Malformed));
    }
}

#[tokio::test]
async fn neither_the_text_nor_its_secret_is_kept_or_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal, tokens) = open(folder.path());
    let (row, text) = tokens.create("laptop", infer(), None, NOW).await.unwrap();
    tokens.verify(text.reveal(), NOW).unwrap();
    let secret = text.reveal().rsplit('_').next().unwrap();
    let shown = format!("{text:?} {row:?} {tokens:?} {:?}", tokens.list());
    assert!(!shown.contains(secret), "{shown}");
    store.close(PATIENCE).await.unwrap();
    drop((store, journal, tokens));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn the_last_use_is_noted_to_the_minute() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal, tokens) = open(folder.path());
    let (row, text) = tokens.create("laptop", infer(), None, NOW).await.unwrap();
    let last_used = |tokens: &Tokens| tokens.find(&row.id).unwrap().last_used_at;
    assert_eq!(last_used(&tokens), None);
    for (second, noted) in [(0, 0), (59, 0), (60, 60), (100, 60), (125, 125)] {
        tokens.verify(text.reveal(), NOW + Duration::from_secs(second)).unwrap();
        assert_eq!(last_used(&tokens), Some(NOW + Duration::from_secs(noted)));
    }
    store.close(PATIENCE).await.unwrap();
    drop((store, journal, tokens));
    assert_eq!(last_used(&open(folder.path()).2), Some(NOW + Duration::from_secs(125)));
}

#[tokio::test]
async fn while_the_store_cannot_write_tokens_still_work_and_changes_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _journal, tokens) = open(folder.path());
    let (row, text) = tokens.create("laptop", infer(), None, NOW).await.unwrap();
    store.inject(Fault::ReadOnly);
    let refused = tokens.create("late", infer(), None, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("the token was not made") && refused.contains("read-only"), "{refused}");
    assert_eq!(tokens.list().len(), 1);
    assert!(tokens.verify(text.reveal(), NOW).is_ok());
    let refused = tokens.revoke(&row.id, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("refused from now on") && refused.contains("read-only"), "{refused}");
    assert_eq!(
        tokens.verify(text.reveal(), NOW),
        Err(Refusal::Revoked),
        "a revoked token is not let in meanwhile"
    );
    store.inject(Fault::None);
    let mut health = store.health();
    tokio::time::timeout(PATIENCE, health.wait_for(|health| health.is_ok())).await.unwrap().unwrap();
    tokens.revoke(&row.id, NOW).await.unwrap();
    let stored: i64 = store
        .read(|db| db.query_row("SELECT count(revoked_at) FROM token", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(stored, 1, "revoking again stores what could not be stored");
}

#[tokio::test]
async fn what_cannot_be_made_or_revoked_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _journal, tokens) = open(folder.path());
    let words = |error: CreateError| error.to_string();
    assert!(
        words(tokens.create("no spaces", infer(), None, NOW).await.unwrap_err()).contains("not a valid name")
    );
    assert!(
        words(tokens.create("admin-file", infer(), None, NOW).await.unwrap_err()).contains("node's own file")
    );
    assert!(
        words(tokens.create("x", BTreeSet::new(), None, NOW).await.unwrap_err())
            .contains("at least one scope")
    );
    let (row, _) = tokens.create("laptop", infer(), None, NOW).await.unwrap();
    let unknown = tokens.revoke("ffffffff", NOW).await.unwrap_err().to_string();
    assert!(unknown.contains("`ffffffff`") && unknown.contains(&row.id), "{unknown}");
}

#[tokio::test]
async fn so_many_tokens_can_be_in_use_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _journal, tokens) = open(folder.path());
    let make = |_| tokens.create("many", infer(), None, NOW);
    let made = futures_util::future::join_all((0..TOKENS_MAX).map(make)).await;
    let (first, _) = made.into_iter().map(Result::unwrap).next().unwrap();
    assert!(matches!(make(0).await, Err(CreateError::TooMany)));
    tokens.revoke(&first.id, NOW).await.unwrap();
    make(0).await.unwrap();
}

#[tokio::test]
async fn tokens_that_ended_long_ago_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal, tokens) = open(folder.path());
    let (row, _) = tokens.create("old", infer(), None, NOW).await.unwrap();
    tokens.revoke(&row.id, NOW).await.unwrap();
    let later = NOW + Duration::from_secs(91 * 24 * 3600);
    tokens.create("new", infer(), None, later).await.unwrap();
    let names = |tokens: &Tokens| tokens.list().into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(&tokens), ["new"]);
    store.close(PATIENCE).await.unwrap();
    drop((store, journal, tokens));
    assert_eq!(names(&open(folder.path()).2), ["new"]);
}

#[test]
fn admin_includes_every_scope_and_no_other_does() {
    for wanted in Scope::ALL {
        assert!(Scope::Admin.includes(wanted));
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin) {
            assert_eq!(scope.includes(wanted), scope == wanted);
        }
        assert_eq!(wanted.as_str().parse(), Ok(wanted));
    }
    let near = |text: &str| text.parse::<Scope>().unwrap_err().to_string();
    assert!(near("runtime").contains("did you mean `runtime:manage`?"), "{}", near("runtime"));
    let told = near("fly");
    let all = told.strip_prefix("`fly` is not a scope; there are: ").unwrap();
    assert_eq!(all.split(", ").map(str::parse).collect::<Result<Vec<Scope>, _>>().unwrap(), Scope::ALL);
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_admin_file_is_made_kept_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _journal, tokens) = open(folder.path());
    let path = folder.path().join("admin.token");
    assert_eq!(tokens.ensure_admin_file(&path, NOW).await.unwrap(), AdminFile::Written);
    let first = text_of(&path);
    assert!(tokens.verify(&first, NOW).unwrap().allows(Scope::TokenManage));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(tokens.ensure_admin_file(&path, NOW).await.unwrap(), AdminFile::Kept);
    assert_eq!(text_of(&path), first);
    // Lost: a new one, and the old one is worth nothing any more.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(tokens.ensure_admin_file(&path, NOW).await.unwrap(), AdminFile::Written);
    assert_eq!(tokens.verify(&first, NOW), Err(Refusal::Revoked));
    // Spoilt in place (and a leftover of a killed node beside it): replaced.
    std::fs::write(&path, "garbage").unwrap();
    std::fs::write(folder.path().join("admin.token.new"), "half").unwrap();
    assert_eq!(tokens.ensure_admin_file(&path, NOW).await.unwrap(), AdminFile::Written);
    assert!(tokens.verify(&text_of(&path), NOW).is_ok());
    // A token without the scope does not do.
    let (_, weak) = tokens.create("weak", infer(), None, NOW).await.unwrap();
    std::fs::write(&path, weak.reveal()).unwrap();
    assert_eq!(tokens.ensure_admin_file(&path, NOW).await.unwrap(), AdminFile::Written);
    let in_use = tokens.list().into_iter().filter(|row| row.name == "admin-file" && row.revoked_at.is_none());
    assert_eq!(in_use.count(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn an_admin_file_that_others_can_read_is_refused_with_the_command_that_helps() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (_store, _journal, tokens) = open(folder.path());
    let path = folder.path().join("admin.token");
    tokens.ensure_admin_file(&path, NOW).await.unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = tokens.ensure_admin_file(&path, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("mode 644") && refused.contains("chmod 600"), "{refused}");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    let refused = tokens.ensure_admin_file(&path, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("not a plain file"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever is presented: a refusal, never a panic.
    #[test]
    fn no_text_gets_in_by_chance(text in prop_oneof!["\\PC{0,90}", "arw_[0-9a-f]{8}_[0-9a-f]{64}", "arw_.{0,80}"]) {
        let id = tokens::id_of(&text);
        prop_assert!(id.is_none_or(|id| id.len() == 8 && text.len() == 77));
    }
}

/// HTTP-3: nobody hands on, or takes away, more than he has, and a token outlives none that made it.
#[test]
fn a_token_makes_and_revokes_only_what_it_holds_itself() {
    let granted = |scopes: &BTreeSet<Scope>, expires_at| Granted {
        id: "00000001".into(),
        name: "maker".into(),
        scopes: std::sync::Arc::new(scopes.clone()),
        expires_at,
    };
    let subsets: Vec<BTreeSet<Scope>> = (1_usize..1 << Scope::ALL.len())
        .map(|bits| {
            (0..Scope::ALL.len()).filter(|at| bits & (1 << at) != 0).map(|at| Scope::ALL[at]).collect()
        })
        .collect();
    for own in &subsets {
        let maker = granted(own, None);
        for wanted in &subsets {
            let holds = own.contains(&Scope::Admin) || wanted.is_subset(own);
            assert_eq!(maker.may_create(wanted, None).is_ok(), holds, "{own:?} {wanted:?}");
            let row = TokenRow {
                id: "00000002".into(),
                name: "other".into(),
                scopes: wanted.clone(),
                created_at: NOW,
                expires_at: None,
                last_used_at: None,
                revoked_at: None,
            };
            assert_eq!(maker.may_revoke(&row).is_ok(), holds, "{own:?} {wanted:?}");
        }
    }
    let brief = granted(&[Scope::Admin].into(), Some(NOW));
    assert!(brief.may_create(&infer(), Some(NOW)).is_ok());
    let later = NOW + Duration::from_millis(1);
    for expires_at in [None, Some(later)] {
        let refused = brief.may_create(&infer(), expires_at).unwrap_err().to_string();
        assert!(refused.contains("expires at"), "{refused}");
    }
}

/// HTTP-3: what people read of the scopes is what there is.
#[test]
fn the_page_lists_exactly_the_scopes_that_there_are() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/http.md")).unwrap();
    let (_, rule) = page.split_once("* HTTP-3:").unwrap();
    let (_, list) = rule.split_once("Scopes:").unwrap();
    let (list, _) = list.split_once(". ").unwrap();
    // Remarks on a scope stand in brackets.
    let mut words = String::new();
    let mut depth = 0_u32;
    for letter in list.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => words.push(letter),
            _ => {}
        }
    }
    let listed: Vec<&str> = words.split('`').skip(1).step_by(2).collect();
    assert_eq!(listed, Scope::ALL.map(Scope::as_str));
    for scope in Scope::ALL {
        assert!(scope.about().len() > 8 && !scope.about().ends_with('.'), "{scope}");
    }
}
