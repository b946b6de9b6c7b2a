//! An RFC 7047 client: framing, reconnect, monitor, a local replica, transactions.
