//! The tokens that clients present.
//!
//! Owns their life: made, checked, revoked, expired. Only a hash is stored; the text is shown once. Checking
//! is a hash and a comparison in memory, so it works while the store cannot write. Refuses to know HTTP and
//! which route needs which scope.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use arw_kit::ids::check_name;
use arw_kit::moment::WallTime;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::{debug, warn};

use super::scope::Scope;
use super::token::{CreateError, Granted, NoScope, Refusal, RevokeError, TokenRow, TokenText};
use crate::journal::{Journal, event};
use crate::store::{Durability, ReadError, Store, WriteError};

/// Tokens that can be in use at the same time. People make a handful; a script that makes one per run should
/// revoke it.
pub const TOKENS_MAX: usize = 1_000;

/// The time of the last use is good to a minute: it tells people which tokens are dead, not more.
const LAST_USED_STEP: Duration = Duration::from_secs(60);

/// Revoked and expired tokens are listed for so long, then forgotten.
const ENDED_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

const PREFIX: &str = "arw_";
const ID_LENGTH: usize = 8;
const SECRET_LENGTH: usize = 64;

/// The node's tokens. Cheap to clone; every clone is the same set.
///
/// ```
/// # runtime().block_on(async {
/// # use arw_actors::journal::{Journal, JournalOptions};
/// # use arw_actors::store::{Store, StoreOptions};
/// use arw_kit::moment::WallTime;
/// use arw_actors::policy::{Refusal, Scope, Tokens};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
/// # let journal = Journal::open(store.clone(), JournalOptions::default()).unwrap();
/// let tokens = Tokens::open(store, journal).unwrap();
/// let now = WallTime::from_millis(1_700_000_000_000);
/// let (row, text) = tokens.create("laptop", [Scope::Infer].into(), None, now).await.unwrap();
/// assert!(tokens.verify(text.reveal(), now).unwrap().allows(Scope::Infer));
/// tokens.revoke(&row.id, now).await.unwrap();
/// assert_eq!(tokens.verify(text.reveal(), now), Err(Refusal::Revoked));
/// # });
/// # fn runtime() -> tokio::runtime::Runtime {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap()
/// # }
/// ```
#[derive(Clone)]
pub struct Tokens {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    journal: Journal,
    // Replaced as a whole at each change (rare), so that a check takes no lock.
    known: ArcSwap<HashMap<Arc<str>, Arc<Known>>>,
    changes: Mutex<()>,
}

struct Known {
    id: Arc<str>,
    name: Arc<str>,
    scopes: Arc<BTreeSet<Scope>>,
    hash: [u8; 32],
    created_at: WallTime,
    expires_at: Option<WallTime>,
    // Milliseconds; `NEVER` before the first use.
    last_used_at: AtomicI64,
    revoked_at: Option<WallTime>,
}

const NEVER: i64 = i64::MIN;

impl Tokens {
    /// Reads the tokens. Blocks for a short read: call it while the node starts.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Store, journal: Journal) -> Result<Self, ReadError> {
        let rows = store.read_blocking(|db| {
            db.prepare(
                "SELECT id, name, scopes, hash, created_at, expires_at, last_used_at, revoked_at FROM token",
            )?
            .query_map([], Known::from_row)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let known = rows.into_iter().map(|known| (Arc::clone(&known.id), Arc::new(known))).collect();
        let shared = Shared { store, journal, known: ArcSwap::from_pointee(known), changes: Mutex::new(()) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes a token. Its text is returned once and cannot be shown again.
    ///
    /// # Errors
    /// [`CreateError`]; then no token was made.
    pub async fn create(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        expires_in: Option<Duration>,
        now: WallTime,
    ) -> Result<(TokenRow, TokenText), CreateError> {
        if name == super::admin_file::TOKEN_NAME {
            return Err(CreateError::ReservedName(name.to_owned()));
        }
        self.create_named(name, scopes, expires_in, now).await
    }

    pub(super) async fn create_named(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        expires_in: Option<Duration>,
        now: WallTime,
    ) -> Result<(TokenRow, TokenText), CreateError> {
        check_name(name)?;
        if scopes.is_empty() {
            return Err(NoScope.into());
        }
        let in_use = self.shared.known.load().values().filter(|known| known.refusal(now).is_none()).count();
        if in_use >= TOKENS_MAX {
            return Err(CreateError::TooMany);
        }
        let (id, text) = self.fresh().map_err(CreateError::NoRandomness)?;
        let known = Arc::new(Known {
            id: id.into(),
            name: name.into(),
            scopes: Arc::new(scopes),
            hash: hash_of(text.reveal()),
            created_at: now,
            expires_at: expires_in.map(|span| now + span),
            last_used_at: AtomicI64::new(NEVER),
            revoked_at: None,
        });
        let stored = Arc::clone(&known);
        self.shared
            .store
            .write(Durability::Full, move |db| insert(db, &stored, now))
            .await
            .map_err(CreateError::NotStored)?;
        let row = known.row();
        self.change(|all| {
            all.retain(|_, known| !known.forgotten(now));
            all.insert(Arc::clone(&known.id), known);
        });
        self.shared.journal.append(event::Token::Created {
            id: row.id.clone(),
            name: row.name.clone(),
            scopes: row.scopes.iter().map(ToString::to_string).collect(),
            expires_at: row.expires_at,
        });
        Ok((row, text))
    }

    /// All tokens, oldest first; also revoked and expired ones of the last 90 days.
    #[must_use]
    pub fn list(&self) -> Vec<TokenRow> {
        let mut rows: Vec<TokenRow> = self.shared.known.load().values().map(|known| known.row()).collect();
        rows.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        rows
    }

    /// Refuses a token from now on, in memory first. Revoking twice changes nothing.
    ///
    /// # Errors
    /// [`RevokeError`]. After [`RevokeError::NotStored`] the token is refused until the node restarts.
    pub async fn revoke(&self, id: &str, now: WallTime) -> Result<TokenRow, RevokeError> {
        let mut before = None;
        self.change(|all| {
            let Some(known) = all.get(id) else { return };
            before = Some(known.revoked_at);
            let revoked = Arc::new(known.revoked(known.revoked_at.unwrap_or(now)));
            all.insert(Arc::clone(&revoked.id), revoked);
        });
        let Some(before) = before else { return Err(self.unknown(id, now)) };
        let (row_id, at) = (id.to_owned(), before.unwrap_or(now));
        // Also when it was revoked before: that may not have been stored.
        self.shared
            .store
            .write(Durability::Full, move |db| {
                let sql = "UPDATE token SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
                Ok(db.execute(sql, params![row_id, at.as_millis()])?)
            })
            .await
            .map_err(|problem| RevokeError::NotStored { id: id.to_owned(), problem })?;
        let row = self.find(id).ok_or_else(|| self.unknown(id, now))?;
        if before.is_none() {
            self.shared.journal.append(event::Token::Revoked { id: row.id.clone(), name: row.name.clone() });
        }
        Ok(row)
    }

    /// Checks a token: one hash and one comparison, no disk.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn verify(&self, presented: &str, now: WallTime) -> Result<Granted, Refusal> {
        let id = id_of(presented).ok_or(Refusal::Malformed)?;
        let all = self.shared.known.load();
        // Ids are no secret (they are listed and journaled), so an early answer for an unknown one tells
        // nothing.
        let known = all.get(id).ok_or(Refusal::Unknown)?;
        if !bool::from(hash_of(presented).ct_eq(&known.hash)) {
            return Err(Refusal::Unknown);
        }
        if let Some(refusal) = known.refusal(now) {
            return Err(refusal);
        }
        self.note_use(known, now);
        Ok(Granted {
            id: Arc::clone(&known.id),
            name: Arc::clone(&known.name),
            scopes: Arc::clone(&known.scopes),
            expires_at: known.expires_at,
        })
    }

    /// The token with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<TokenRow> {
        self.shared.known.load().get(id).map(|known| known.row())
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Arc<str>, Arc<Known>>)) {
        let _one_at_a_time = self.shared.changes.lock();
        let mut all = HashMap::clone(&self.shared.known.load());
        change(&mut all);
        self.shared.known.store(Arc::new(all));
    }

    fn unknown(&self, given: &str, now: WallTime) -> RevokeError {
        let in_use = |row: &TokenRow| {
            row.revoked_at.is_none() && row.expires_at.is_none_or(|expires_at| now < expires_at)
        };
        let known = self.list().into_iter().filter(in_use).map(|row| row.id).collect();
        RevokeError::Unknown { given: given.chars().take(80).collect(), known }
    }

    /// A new id that no token has, and a text with it.
    fn fresh(&self) -> Result<(String, TokenText), getrandom::Error> {
        loop {
            let mut bytes = [0_u8; ID_LENGTH / 2 + SECRET_LENGTH / 2];
            getrandom::fill(&mut bytes)?;
            let (id, secret) = bytes.split_at(ID_LENGTH / 2);
            let id = base16ct::lower::encode_string(id);
            if self.find(&id).is_none() {
                let text = format!("{PREFIX}{id}_{}", base16ct::lower::encode_string(secret));
                return Ok((id, TokenText::new(&text)));
            }
        }
    }

    fn note_use(&self, known: &Known, now: WallTime) {
        let (last, now) = (known.last_used_at.load(Ordering::Relaxed), now.as_millis());
        let step = i64::try_from(LAST_USED_STEP.as_millis()).unwrap_or(i64::MAX);
        if last != NEVER && now.saturating_sub(last) < step {
            return;
        }
        if known.last_used_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return; // Another check of the same token writes it.
        }
        let id = Arc::clone(&known.id);
        self.shared.store.submit(
            Durability::Relaxed,
            move |db| Ok(db.execute("UPDATE token SET last_used_at = ?2 WHERE id = ?1", params![&*id, now])?),
            |outcome| {
                if let Err(problem) = outcome {
                    debug!(%problem, "the time of a token's last use was not stored");
                }
            },
        );
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.shared.known.load().len()).finish_non_exhaustive()
    }
}

impl Known {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let time = |column| row.get::<_, Option<i64>>(column).map(|at| at.map(WallTime::from_millis));
        let id: String = row.get(0)?;
        let words: String = row.get(2)?;
        let mut scopes = BTreeSet::new();
        for word in words.split_whitespace() {
            match word.parse() {
                Ok(scope) => drop(scopes.insert(scope)),
                Err(problem) => {
                    warn!(token = %id, %problem, "a token's scope is not known here and grants nothing");
                }
            }
        }
        Ok(Self {
            id: id.into(),
            name: row.get::<_, String>(1)?.into(),
            scopes: Arc::new(scopes),
            hash: row.get(3)?,
            created_at: WallTime::from_millis(row.get(4)?),
            expires_at: time(5)?,
            last_used_at: AtomicI64::new(row.get::<_, Option<i64>>(6)?.unwrap_or(NEVER)),
            revoked_at: time(7)?,
        })
    }

    fn row(&self) -> TokenRow {
        let last_used_at = self.last_used_at.load(Ordering::Relaxed);
        TokenRow {
            id: (*self.id).to_owned(),
            name: (*self.name).to_owned(),
            scopes: (*self.scopes).clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: (last_used_at != NEVER).then(|| WallTime::from_millis(last_used_at)),
            revoked_at: self.revoked_at,
        }
    }

    fn revoked(&self, at: WallTime) -> Self {
        Self {
            id: Arc::clone(&self.id),
            name: Arc::clone(&self.name),
            scopes: Arc::clone(&self.scopes),
            hash: self.hash,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: AtomicI64::new(self.last_used_at.load(Ordering::Relaxed)),
            revoked_at: Some(at),
        }
    }

    fn refusal(&self, now: WallTime) -> Option<Refusal> {
        if self.revoked_at.is_some() {
            return Some(Refusal::Revoked);
        }
        self.expires_at.filter(|at| *at <= now).map(|_| Refusal::Expired)
    }

    fn forgotten(&self, now: WallTime) -> bool {
        self.revoked_at.or(self.expires_at).is_some_and(|end| end + ENDED_KEPT <= now)
    }
}

/// Stores a new token, and forgets those that ended long ago.
fn insert(db: &Connection, known: &Known, now: WallTime) -> Result<(), WriteError> {
    let kept = i64::try_from(ENDED_KEPT.as_millis()).unwrap_or(i64::MAX);
    db.execute(
        "DELETE FROM token WHERE coalesce(revoked_at, expires_at) <= ?1",
        [now.as_millis().saturating_sub(kept)],
    )?;
    let taken = db.query_row("SELECT 1 FROM token WHERE id = ?1", [&*known.id], |_| Ok(())).optional()?;
    if taken.is_some() {
        return Err(WriteError::Refused("its random id was taken in the same moment; try again".to_owned()));
    }
    let words: Vec<&str> = known.scopes.iter().map(|scope| scope.as_str()).collect();
    db.execute(
        "INSERT INTO token (id, name, scopes, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            &*known.id,
            &*known.name,
            words.join(" "),
            known.hash,
            known.created_at.as_millis(),
            known.expires_at.map(WallTime::as_millis)
        ],
    )?;
    Ok(())
}

/// The id in a token's text, when the text has the form of a token.
pub(super) fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let hexadecimal = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let fits =
        id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && hexadecimal(id) && hexadecimal(secret);
    fits.then_some(id)
}

/// The secret has 256 random bits, so a plain hash (no salt, no slow function) cannot be searched.
fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
