//! What a token may be used for.
//!
//! Owns the scopes, their words and which one includes which. Refuses to know tokens and routes.

use std::fmt;
use std::str::FromStr;

/// Makes the enum and everything that is said of a scope from one table, so that none of it can differ.
macro_rules! scopes {
    ($($name:ident, $word:literal, $about:literal;)*) => {
        /// One permission. As text: `runtime:manage`.
        ///
        /// ```
        /// use arw_actors::policy::Scope;
        /// let scope: Scope = "infer".parse().unwrap();
        /// assert!(Scope::Admin.includes(scope));
        /// let error = "infre".parse::<Scope>().unwrap_err().to_string();
        /// assert!(error.contains("did you mean `infer`?") && error.contains("runtime:manage"));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Scope {
            $(#[doc = $about] $name,)*
        }

        impl Scope {
            /// Every scope there is.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// The stable word, for example `token:manage`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// What it allows, in a few words and without a full stop.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => $about,)*
                }
            }
        }
    };
}

// HTTP-3.
scopes! {
    Infer, "infer", "Ask models: `/v1/*`";
    RuntimeManage, "runtime:manage", "Add, remove, start and stop runtimes";
    ModelManage, "model:manage", "Import and remove models";
    TokenManage, "token:manage", "Create, list and revoke tokens";
    ClusterManage, "cluster:manage", "Let machines join the cluster, join one, remove and drain nodes";
    StateRead, "state:read", "Read state, events and logs where reads need a token";
    Admin, "admin", "All of them";
}

impl Scope {
    /// Whether whoever has this scope may do what `wanted` allows.
    #[must_use]
    pub fn includes(self, wanted: Self) -> bool {
        self == wanted || self == Self::Admin
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| UnknownScope { given: text.chars().take(80).collect() })
    }
}

/// The text names no scope. Its words list those that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScope {
    given: String,
}

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a scope", self.given)?;
        if let Some(near) = Scope::ALL.into_iter().find(|scope| is_near(&self.given, scope.as_str())) {
            write!(f, " (did you mean `{near}`?)")?;
        }
        write!(f, "; there are: {}", words())
    }
}

/// The words of all scopes, for refusals.
pub(super) fn words() -> String {
    Scope::ALL.map(Scope::as_str).join(", ")
}

impl std::error::Error for UnknownScope {}

/// The same letters in any order and case (a slip of the fingers), or one contained in the other (`runtime`).
fn is_near(given: &str, known: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.to_lowercase().chars().collect();
        letters.sort_unstable();
        letters
    };
    sorted(given) == sorted(known) || (given.len() >= 4 && (known.contains(given) || given.contains(known)))
}
