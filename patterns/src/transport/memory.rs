//! `memory://name`: threads of this process, without ZeroMQ.

use super::{Role, Side, Socket, SocketOptions, TransportError};
use crate::endpoint::Endpoint;

/// Opens an in-process socket; see [`transport::open`](super::open).
///
/// # Errors
///
/// See [`transport::open`](super::open).
pub fn open(
    _role: Role,
    _side: Side,
    endpoint: &Endpoint,
    _options: &SocketOptions,
) -> Result<Box<dyn Socket>, TransportError> {
    let reason = "not there yet".to_string();
    Err(TransportError::Unusable {
        endpoint: endpoint.clone(),
        reason,
    })
}
