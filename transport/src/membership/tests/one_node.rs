//! What one node makes of single datagrams and late timers.
