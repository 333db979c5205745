use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::certificate::{Role, Roles};

const HOUR: Duration = Duration::from_secs(3600);
const SESSION: KeyingMaterial = KeyingMaterial([3; 32]);

fn now() -> WallTime {
    WallTime::from_millis(1_800_000_000_000)
}

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn wanted() -> NewToken {
    NewToken {
        roles: Roles::from_iter([Role::Worker]),
        ttl: HOUR,
        uses_max: 1,
        addresses: vec!["10.0.0.1:7700".parse().unwrap(), "[fd00::1]:7701".parse().unwrap()],
    }
}

fn made(table: &mut TokenTable, wanted: NewToken, byte: u8) -> Result<JoinToken, CreateTokenError> {
    let home = (ClusterId::from_bytes([1; 16]), node(9));
    table.create(now(), wanted, home, (TokenId([byte; 8]), [byte; 16])).map(|(token, _)| token)
}

fn token() -> JoinToken {
    made(&mut TokenTable::default(), wanted(), 5).unwrap()
}

fn used(
    table: &mut TokenTable,
    token: &JoinToken,
    joiner: NodeId,
    at: WallTime,
) -> Result<Used, TokenRefusal> {
    let proof = token.proof_key().prove(&SESSION, joiner, node(9));
    table.try_use(at, token.id, &proof, &SESSION, (joiner, node(9)))
}

#[test]
fn a_token_is_read_however_it_was_pasted() {
    let text = token().reveal();
    assert!(text.starts_with("arw1-") && text.len() < 200, "{} characters", text.len());
    assert_eq!(JoinToken::parse(&text, now()), Ok(token()));
    assert_eq!(JoinToken::parse(&text.to_uppercase(), now()), Ok(token()));
    let wrapped = format!("  {}\n  {}\r\n", &text[..40], &text[40..]);
    assert_eq!(JoinToken::parse(&wrapped, now()), Ok(token()));
}

#[test]
fn what_is_wrong_with_a_text_is_said() {
    let text = token().reveal();
    let error = |text: &str| JoinToken::parse(text, now()).unwrap_err();
    assert_eq!(error("hello"), TokenError::NotAToken);
    assert_eq!(error("arw_1234_abcd"), TokenError::NotAToken);
    assert_eq!(error("arw2-abcdefgh"), TokenError::Form { found: 2 });
    assert!(matches!(error(""), TokenError::Truncated { have: 0, .. }));
    assert!(matches!(error("arw1-"), TokenError::Truncated { have: 0, .. }));
    assert!(matches!(error(&text[..100]), TokenError::Truncated { .. }));
    assert!(matches!(error(&format!("{text}{text}")), TokenError::Character { character: '1', .. }));
    assert!(matches!(error(&format!("{text}aaaaaaaa")), TokenError::TooLong { .. }));
    let typo = text.replacen(&text[60..61], if &text[60..61] == "a" { "b" } else { "a" }, 1);
    assert_eq!(error(&typo), TokenError::Checksum);
    let expired_at = token().expires_at;
    let late = JoinToken::parse(&text, now() + HOUR + HOUR);
    assert_eq!(late, Err(TokenError::Expired { expired_at }));
    assert!(late.unwrap_err().to_string().contains("arw cluster token create"));
}

#[test]
fn a_token_that_leads_nowhere_is_none() {
    let nowhere = JoinToken { addresses: vec![], ..token() };
    assert_eq!(JoinToken::parse(&nowhere.reveal(), now()), Err(TokenError::Contents));
}

#[test]
fn neither_the_token_nor_its_record_shows_the_secret() {
    // WIRE-12
    let mut table = TokenTable::default();
    let token = made(&mut table, wanted(), 0xab).unwrap();
    let shown = format!("{token:?} {table:?} {:?} {SESSION:?}", token.proof_key());
    for secret in ["171, 171", "[171", &base16ct::lower::encode_string(token.proof_key().reveal())] {
        assert!(!shown.contains(secret), "{shown}");
    }
    // The id, which is no secret, has eight of these bytes; the secret sixteen.
    assert!(!shown.contains(&"ab".repeat(9)));
    let record = table.list().next().unwrap();
    assert_ne!(record.key.reveal()[..16], token.secret);
}

#[test]
fn a_proof_is_good_in_one_session_from_one_node_to_one_issuer() {
    // WIRE-11
    let key = token().proof_key();
    let proof = key.prove(&SESSION, node(1), node(9));
    assert!(key.accepts(&proof, &SESSION, node(1), node(9)));
    assert!(!key.accepts(&proof, &KeyingMaterial([4; 32]), node(1), node(9)));
    assert!(!key.accepts(&proof, &SESSION, node(2), node(9)));
    assert!(!key.accepts(&proof, &SESSION, node(1), node(8)));
    assert!(!ProofKey::of_secret(&[6; 16]).accepts(&proof, &SESSION, node(1), node(9)));
    // The sides cannot be swapped.
    assert!(!key.accepts(&proof, &SESSION, node(9), node(1)));
}

#[test]
fn a_token_is_used_once_and_the_use_is_returned_to_be_stored_first() {
    // WIRE-12
    let mut table = TokenTable::default();
    let token = made(&mut table, wanted(), 5).unwrap();
    let first = used(&mut table, &token, node(1), now()).unwrap();
    let record = first.record.unwrap();
    assert_eq!(record.used, [TokenUse { node: node(1), at: now(), is_barred: false }]);
    assert_eq!(used(&mut table, &token, node(2), now()), Err(TokenRefusal::Used));
    // Also after a restart.
    let mut restored = TokenTable::restore([record]);
    assert_eq!(used(&mut restored, &token, node(2), now()), Err(TokenRefusal::Used));
    // Whose answer got lost may ask again, and nothing is to be stored for it.
    let again = used(&mut restored, &token, node(1), now()).unwrap();
    assert_eq!(again, Used { roles: wanted().roles, record: None });
}

#[test]
fn a_removed_node_does_not_come_back_with_its_old_token() {
    let mut table = TokenTable::default();
    let token = made(&mut table, NewToken { uses_max: 3, ..wanted() }, 5).unwrap();
    used(&mut table, &token, node(1), now()).unwrap();
    assert_eq!(table.bar(node(2)), []);
    assert_eq!(table.bar(node(1)).len(), 1);
    assert_eq!(table.bar(node(1)), []);
    assert_eq!(used(&mut table, &token, node(1), now()), Err(TokenRefusal::Removed));
    assert!(used(&mut table, &token, node(2), now()).is_ok());
    let new = made(&mut table, wanted(), 6).unwrap();
    assert!(used(&mut table, &new, node(1), now()).is_ok());
}

#[test]
fn a_token_that_ended_is_refused_with_the_reason_only_to_who_has_it() {
    // WIRE-12
    let mut table = TokenTable::default();
    let token = made(&mut table, wanted(), 5).unwrap();
    let expired = token.expires_at;
    assert!(used(&mut table, &token, node(1), expired - Duration::from_millis(1)).is_ok());
    assert_eq!(used(&mut table, &token, node(1), expired), Err(TokenRefusal::Expired));
    let wrong = [0; 32];
    let mut try_wrong = |id| table.try_use(expired, id, &wrong, &SESSION, (node(1), node(9)));
    assert_eq!(try_wrong(token.id), Err(TokenRefusal::Proof));
    assert_eq!(try_wrong(TokenId([8; 8])), Err(TokenRefusal::Proof));
    assert!(table.revoke(now(), token.id).is_some_and(|record| record.revoked_at == Some(now())));
    assert_eq!(used(&mut table, &token, node(1), now()), Err(TokenRefusal::Revoked));
    assert_eq!(table.revoke(now(), TokenId([8; 8])), None);
}

#[test]
fn what_ended_is_forgotten_after_a_day_and_the_table_is_bounded() {
    let mut table = TokenTable::default();
    for number in 0..TOKENS_MAX {
        let id = TokenId((number as u64).to_le_bytes());
        table.create(now(), wanted(), (ClusterId::from_bytes([1; 16]), node(9)), (id, [1; 16])).unwrap();
    }
    let id = TokenId([0xFF; 8]);
    let home = (ClusterId::from_bytes([1; 16]), node(9));
    assert_eq!(table.create(now(), wanted(), home, (id, [1; 16])), Err(CreateTokenError::TooMany));
    assert_eq!(table.prune(now() + HOUR), []);
    assert_eq!(table.prune(now() + 25 * HOUR).len(), TOKENS_MAX);
    assert!(table.create(now(), wanted(), home, (id, [1; 16])).is_ok());
    assert_eq!(table.create(now(), wanted(), home, (id, [1; 16])), Err(CreateTokenError::IdTaken(id)));
}

#[test]
fn a_token_that_could_not_work_is_not_made() {
    let mut table = TokenTable::default();
    let ttl = TTL_MAX + HOUR;
    assert_eq!(made(&mut table, NewToken { ttl, ..wanted() }, 1), Err(CreateTokenError::Ttl { ttl }));
    let none = Duration::ZERO;
    assert_eq!(
        made(&mut table, NewToken { ttl: none, ..wanted() }, 1),
        Err(CreateTokenError::Ttl { ttl: none })
    );
    let uses = made(&mut table, NewToken { uses_max: 0, ..wanted() }, 1);
    assert_eq!(uses, Err(CreateTokenError::Uses { uses_max: 0 }));
    let many = vec![wanted().addresses[0]; 5];
    let addresses = made(&mut table, NewToken { addresses: many, ..wanted() }, 1);
    assert_eq!(addresses, Err(CreateTokenError::Addresses { count: 5 }));
    let nowhere = made(&mut table, NewToken { addresses: vec![], ..wanted() }, 1);
    assert_eq!(nowhere, Err(CreateTokenError::Addresses { count: 0 }));
    assert_eq!(table.list().count(), 0);
}

/// The form is a contract: tokens outlive the program that made them.
#[test]
fn the_text_of_a_token_never_changes() {
    let bytes = base32::decode(&token().reveal()[5..]).unwrap();
    let body = &bytes[..bytes.len() - CHECKSUM_BYTES];
    let expected = [
        "01",
        "6d",
        &"01".repeat(16),
        &"09".repeat(32),
        &"05".repeat(8),
        &"05".repeat(16),
        &base16ct::lower::encode_string(&1_800_003_600_u32.to_le_bytes()),
        "02",
        "04",
        "0a000001",
        "1e14",
        "06",
        "fd000000000000000000000000000001",
        "1e15",
    ];
    assert_eq!(base16ct::lower::encode_string(body), expected.concat());
}

fn tokens() -> impl Strategy<Value = JoinToken> {
    let addresses = proptest::collection::vec(any::<SocketAddr>(), 1..=ADDRESSES_MAX);
    let numbers = (any::<[u8; 16]>(), any::<[u8; 32]>(), any::<[u8; 8]>(), any::<[u8; 16]>(), any::<u32>());
    (numbers, addresses).prop_map(|((cluster, issuer, id, secret, at), addresses)| JoinToken {
        cluster: ClusterId::from_bytes(cluster),
        issuer: NodeId::from_bytes(issuer),
        id: TokenId(id),
        secret,
        expires_at: WallTime::from_millis(i64::from(at) * 1000),
        // Zones and flow labels mean nothing on another machine.
        addresses: addresses.into_iter().map(|it| SocketAddr::new(it.ip(), it.port())).collect(),
    })
}

proptest! {
    #[test]
    fn a_token_comes_back_from_its_text(token in tokens()) {
        prop_assert_eq!(JoinToken::parse(&token.reveal(), WallTime::default()), Ok(token));
    }

    #[test]
    fn a_text_with_a_character_changed_added_or_lost_is_refused(
        token in tokens(), at in 0.0..1.0_f64, letter in "[a-z2-7]", edit in 0..3,
    ) {
        let text = token.reveal();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "any place in the text will do")]
        let at = PREFIX.len() + ((text.len() - PREFIX.len()) as f64 * at) as usize;
        let changed = match edit {
            0 => format!("{}{letter}{}", &text[..at], &text[at + 1..]),
            1 => format!("{}{letter}{}", &text[..at], &text[at..]),
            _ => format!("{}{}", &text[..at], &text[at + 1..]),
        };
        if changed != text {
            prop_assert!(JoinToken::parse(&changed, WallTime::default()).is_err());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,300}", digits in "[a-z2-7]{0,300}") {
        drop(JoinToken::parse(&text, now()));
        let with_prefix = [format!("arw1-{digits}"), format!("arw1-{text}")];
        prop_assert!(with_prefix.iter().all(|text| JoinToken::parse(text, now()).is_err()));
    }

    #[test]
    fn bytes_with_a_right_checksum_do_not_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 79..180)) {
        bytes[0] = FORM;
        bytes[1] = u8::try_from(bytes.len() + CHECKSUM_BYTES).unwrap();
        bytes[78] %= 6;
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        if let Ok(token) = JoinToken::from_bytes(&bytes) {
            prop_assert_eq!(base32::decode(&token.reveal()[5..]).unwrap(), bytes);
        }
    }

    #[test]
    fn a_token_never_lets_more_nodes_in_than_it_may(
        uses_max in 1_u32..5, joiners in proptest::collection::vec(0_u8..8, 0..30),
    ) {
        // WIRE-12
        let mut table = TokenTable::default();
        let token = made(&mut table, NewToken { uses_max, ..wanted() }, 5).unwrap();
        let mut admitted = std::collections::BTreeSet::new();
        for joiner in joiners {
            let outcome = used(&mut table, &token, node(joiner), now());
            let fits = admitted.contains(&joiner) || admitted.len() < uses_max as usize;
            prop_assert_eq!(outcome.is_ok(), fits);
            if fits {
                prop_assert_eq!(outcome.unwrap().record.is_some(), admitted.insert(joiner));
            }
        }
    }
}
