//! Session errors.

use std::time::Duration;

use super::frame::FrameError;
use super::leader::Unfit;
use super::tls::TlsError;
use crate::{SchemaError, UpdateError};

/// Why a session could not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the server has closed the connection")]
    Closed,
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("ssl without a private key, a certificate and a CA certificate")]
    NoTls,
    #[error("no name or address: {0:?}")]
    ServerName(String),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("a transaction has had no reply within {0:?}")]
    ReplyTimeout(Duration),
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    #[error("{method}: {reason}")]
    Refused { method: &'static str, reason: String },
    #[error("the server has canceled the monitor, as the schema has changed")]
    Canceled,
    #[error("the server asks for echoes faster than it reads the answers")]
    Echoes,
    #[error("unreadable stream: {0}")]
    Frame(#[from] FrameError),
    #[error("message is not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("unreadable message: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the last handle is gone")]
    Dropped,
}
