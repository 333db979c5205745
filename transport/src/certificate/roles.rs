//! What a member may be.
//!
//! Owns the words and their bits. Refuses to know what each allows.

use std::fmt;
use std::str::FromStr;

/// One role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Accepts assignments.
    Worker = 1,
    /// Answers clients for the whole cluster.
    Gateway = 2,
    /// Owns workspaces: queue, policy, ledger.
    Home = 4,
}

impl Role {
    const ALL: [Self; 3] = [Self::Worker, Self::Gateway, Self::Home];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Gateway => "gateway",
            Self::Home => "home",
        }
    }
}

impl FromStr for Role {
    type Err = BadRole;
    fn from_str(text: &str) -> Result<Self, BadRole> {
        let known = Self::ALL.into_iter().find(|role| role.word() == text);
        known.ok_or_else(|| BadRole(text.chars().take(80).collect()))
    }
}

/// The word is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; known: worker, gateway, home")]
pub struct BadRole(String);

/// Some roles. Bits that a newer version gave out are kept and mean nothing here.
///
/// ```
/// use arw_transport::certificate::{Role, Roles};
/// let roles = Roles::from_iter([Role::Home, Role::Worker]);
/// assert_eq!(roles.to_string(), "worker,home");
/// assert!(!roles.has(Role::Gateway));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roles(u8);

impl Roles {
    /// The roles that these bits stand for.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `role` is one of them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & role as u8 != 0
    }

    /// Those that this version knows.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role as u8))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", role.word())?;
        }
        Ok(())
    }
}
