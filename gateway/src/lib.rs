//! The HTTP gateway of a node: state, events, control and the OpenAI-compatible API.
