//! Joining with a token.

use super::kit::*;
use crate::certificate::{CertificateError, Role};
use crate::endpoint::*;
use crate::join::JoinFailure;
use crate::token::{JoinToken, NewToken, TokenId, TokenTable};
use crate::wire::{JoinRefusal, presentable};
use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn joining(byte: u8) -> JoinOptions {
    let name = presentable(&format!("node-{byte}"), 64);
    JoinOptions { key: node_key(byte), name, listen: loopback(), clock: Clock::system() }
}

async fn refusal(byte: u8, token: &JoinToken) -> JoinRefusal {
    match join(joining(byte), token.clone()).await {
        Err(JoinFailure::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_becomes_a_member() {
    // WIRE-11, WIRE-12
    let (issuer, ledger) = Wanted::issuer(1);
    let mut issuer = issuer.start();
    let token = issuer.new_token().await;
    let membership = join(joining(2), token.clone()).await.unwrap();
    assert!(membership.certificate.roles.has(Role::Worker));
    assert_eq!(ledger.tokens.lock()[&token.id].used.len(), 1, "the use is in the ledger");
    assert_eq!(membership.peers[0].node, *issuer.id.as_bytes());
    let known = membership.peers.iter().map(Known::from).collect();
    let mut member = Wanted { certificate: membership.signed, known, ..Wanted::member(2) }.start();
    member.until_with(&[issuer.id]).await;
    issuer.until_with(&[member.id]).await;
    assert_eq!(issuer.handle.counters().joined, 1);
}

#[tokio::test]
async fn a_used_token_lets_in_only_whom_it_let_in_before() {
    // WIRE-12
    let issuer = Wanted::issuer(1).0.start();
    let token = issuer.new_token().await;
    let first = join(joining(2), token.clone()).await.unwrap();
    assert_eq!(refusal(3, &token).await, JoinRefusal::Used);
    let again = join(joining(2), token.clone()).await.unwrap();
    assert!(again.certificate.serial > first.certificate.serial, "its answer may have been lost");
    assert_eq!(issuer.handle.counters().join_refused(JoinRefusal::Used), 1);
}

#[tokio::test]
async fn a_revoked_token_lets_nobody_in() {
    let (issuer, ledger) = Wanted::issuer(1);
    let issuer = issuer.start();
    let token = issuer.new_token().await;
    issuer.handle.revoke_token(token.id).await.unwrap();
    assert!(ledger.tokens.lock()[&token.id].revoked_at.is_some());
    assert_eq!(refusal(2, &token).await, JoinRefusal::Revoked);
    let unknown = TokenId::from_bytes([9; 8]);
    assert_eq!(issuer.handle.revoke_token(unknown).await, Err(RevokeError::Unknown(unknown)));
}

/// A token of cluster 1 that was made at `now` by the node with this number, and the table that has it.
fn token_of(byte: u8, now: WallTime, address: SocketAddr) -> (JoinToken, TokenTable) {
    let mut tokens = TokenTable::default();
    let wanted = NewToken {
        roles: crate::certificate::Roles::from_iter([Role::Worker]),
        ttl: Duration::from_secs(60),
        uses_max: 1,
        addresses: vec![address],
    };
    let ends = (cluster_key(1).id(), node_key(byte).id());
    let (token, _) = tokens.create(now, wanted, ends, (TokenId::from_bytes([1; 8]), [7; 16])).unwrap();
    (token, tokens)
}

#[tokio::test]
async fn an_expired_token_lets_nobody_in() {
    let an_hour_ago = WallTime::from_millis(Clock::system().wall().as_millis() - 3_600_000);
    let (mut token, tokens) = token_of(1, an_hour_ago, loopback());
    let ledger = Arc::new(MemoryLedger::default());
    let issuer = Some(Issuer { cluster: cluster_key(1), tokens, ledger, restored_at: None });
    let issuer = Wanted { issuer, ..Wanted::member(1) }.start();
    token.addresses = vec![issuer.handle.local_addr()];
    assert_eq!(refusal(2, &token).await, JoinRefusal::Expired);
}

#[tokio::test]
async fn a_node_that_is_no_issuer_says_so() {
    let member = Wanted::member(1).start();
    let (token, _) = token_of(1, Clock::system().wall(), member.handle.local_addr());
    assert_eq!(refusal(2, &token).await, JoinRefusal::NotIssuer);
    let refused = member.handle.create_token(NewToken {
        roles: crate::certificate::Roles::default(),
        ttl: Duration::from_secs(60),
        uses_max: 1,
        addresses: vec![loopback()],
    });
    assert_eq!(refused.await, Err(CreateError::NotIssuer));
    assert_eq!(member.handle.remove(node_key(2).id()).await, Err(RemoveError::NotIssuer));
}

#[tokio::test]
async fn nobody_is_let_in_when_the_use_cannot_be_stored_and_the_token_is_spent() {
    // WIRE-12
    let (issuer, ledger) = Wanted::issuer(1);
    let issuer = issuer.start();
    let token = issuer.new_token().await;
    *ledger.is_broken.lock() = true;
    assert_eq!(refusal(2, &token).await, JoinRefusal::NotStored);
    *ledger.is_broken.lock() = false;
    assert_eq!(refusal(3, &token).await, JoinRefusal::Used);
}

#[tokio::test]
async fn a_clock_that_is_hours_off_is_told_before_the_token_is_used() {
    // WIRE-14
    let issuer = Wanted::issuer(1).0.start();
    let token = issuer.new_token().await;
    let hours_ahead = WallTime::from_millis(Clock::system().wall().as_millis() + 3 * 3_600_000);
    let options = JoinOptions { clock: Clock::starting_at(hours_ahead), ..joining(2) };
    let refused = join(options, token.clone()).await;
    assert_eq!(refused.unwrap_err(), JoinFailure::Refused(JoinRefusal::Clock));
    join(joining(3), token).await.unwrap();
}

#[tokio::test]
async fn each_address_of_a_token_is_tried_and_another_node_is_not_believed() {
    // WIRE-2
    let issuer = Wanted::issuer(1).0.start();
    let other = Wanted::member(4).start();
    let mut token = issuer.new_token().await;
    token.addresses = vec![other.handle.local_addr(), issuer.handle.local_addr()];
    join(joining(2), token.clone()).await.unwrap();
    token.addresses.pop();
    let failure = join(joining(2), token).await.unwrap_err();
    assert_eq!(failure, JoinFailure::Unreachable { tried: vec![other.handle.local_addr()] });
}

#[tokio::test]
async fn an_endpoint_does_not_start_with_what_cannot_work() {
    let start = |wanted: Wanted, listen: SocketAddr| {
        let options = EndpointOptions {
            key: node_key(wanted.byte),
            incarnation: 1,
            name: String::new(),
            listen,
            advertised: None,
            credentials: Credentials {
                certificate: wanted.certificate,
                cluster_key: cluster_key(1).public(),
                revoked: wanted.revoked,
                issuer: None,
            },
            issuer: wanted.issuer,
            known: Vec::new(),
            limits: Limits::default(),
            membership: crate::membership::MembershipConfig::default(),
            clock: wanted.clock,
            services: Arc::new(NoServices),
        };
        Endpoint::start(options).map(|_| ()).unwrap_err()
    };
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(matches!(start(Wanted::member(1), anywhere), StartError::NeedsAdvertised { .. }));
    let of_another = Wanted { certificate: Wanted::member(2).certificate, ..Wanted::member(1) };
    let refused = start(of_another, loopback());
    assert!(matches!(refused, StartError::Certificate(CertificateError::OtherNode { .. })));
    let tokens = TokenTable::default();
    let ledger = Arc::new(MemoryLedger::default());
    let other_key = Issuer { cluster: cluster_key(2), tokens, ledger, restored_at: None };
    let refused = start(Wanted { issuer: Some(other_key), ..Wanted::member(1) }, loopback());
    assert!(matches!(refused, StartError::OtherClusterKey));
    let (broken, ledger) = Wanted::issuer(1);
    *ledger.is_broken.lock() = true;
    assert!(matches!(start(broken, loopback()), StartError::Ledger(_)));
    let taken = Wanted::member(1).start();
    let refused = start(Wanted::member(1), taken.handle.local_addr());
    assert!(matches!(refused, StartError::Socket { .. }));
}
