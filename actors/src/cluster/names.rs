//! Which node a person means.
//!
//! Plain decider: an id, the beginning of one, or a name. Refuses to guess between two.

use crate::ids::NodeId;

/// Fewer digits of an id than this are no way to name a node: tables show so many.
const PREFIX_DIGITS_MIN: usize = 8;

/// No one node is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindNodeError {
    /// None is called that.
    #[error("no node is called `{text}`")]
    Unknown {
        /// As asked for, cut.
        text: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// Several are.
    #[error("`{text}` may be any of several nodes")]
    Ambiguous {
        /// As asked for, cut.
        text: String,
        /// The ids of those.
        ids: Vec<NodeId>,
    },
}

/// Finds the node that `text` means: its id, at least the first eight digits of its id, or its name. A node
/// chooses its own name, so that a name never outranks an id: where it looks like another node's digits,
/// neither is taken.
///
/// # Errors
/// See [`FindNodeError`].
pub fn find_node<'n>(
    text: &str,
    nodes: impl IntoIterator<Item = (NodeId, &'n str)>,
) -> Result<NodeId, FindNodeError> {
    let whole = text.parse::<NodeId>().ok();
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for (id, name) in nodes {
        let is_meant = match whole {
            Some(whole) => id == whole,
            None => name == text || is_prefix(text, id),
        };
        if is_meant && !found.contains(&id) {
            found.push(id);
        }
        known.push(if name.is_empty() { id.short() } else { name.to_owned() });
    }
    let text: String = text.chars().take(80).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(FindNodeError::Unknown { text, known }),
        _ => Err(FindNodeError::Ambiguous { text, ids: found }),
    }
}

/// The digits begin this id, and are enough of it.
fn is_prefix(digits: &str, id: NodeId) -> bool {
    digits.len() >= PREFIX_DIGITS_MIN && id.to_string().starts_with(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> NodeId {
        let mut bytes = [7; 32];
        bytes[0] = first;
        NodeId::from_bytes(bytes)
    }

    fn found(text: &str, nodes: &[(NodeId, &str)]) -> Result<NodeId, FindNodeError> {
        find_node(text, nodes.iter().copied())
    }

    #[test]
    fn a_node_is_found_by_its_id_the_beginning_of_it_and_its_name() {
        let nodes = [(id(1), "box-a"), (id(2), "box-b")];
        for text in [id(2).to_string(), id(2).short(), "box-b".to_owned()] {
            assert_eq!(found(&text, &nodes), Ok(id(2)), "{text}");
        }
        let unknown = |text: &str| found(text, &nodes).unwrap_err();
        for text in ["0207070", "box", "", "0000000000"] {
            let known = vec!["box-a".to_owned(), "box-b".to_owned()];
            assert_eq!(unknown(text), FindNodeError::Unknown { text: text.to_owned(), known });
        }
    }

    #[test]
    fn between_two_nothing_is_guessed() {
        let twins = [(id(1), "box"), (id(2), "box")];
        let ambiguous =
            |text: &str| FindNodeError::Ambiguous { text: text.to_owned(), ids: vec![id(1), id(2)] };
        assert_eq!(found("box", &twins), Err(ambiguous("box")));
        // The same node, told twice, is one.
        assert_eq!(found("box", &[(id(1), "box"), (id(1), "box")]), Ok(id(1)));
        let text = id(1).short();
        let posing = [(id(1), "a"), (id(2), text.as_str())];
        assert_eq!(found(&text, &posing), Err(ambiguous(&text)));
        // The whole id is nobody's name.
        let whole = id(1).to_string();
        assert_eq!(found(&whole, &[(id(1), "a"), (id(2), whole.as_str())]), Ok(id(1)));
    }
}
