//! Encryption and authentication: who may connect, and to whom.

use std::sync::Arc;

/// How a socket is protected.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// Neither encryption nor authentication; listens on this machine only.
    #[default]
    None,
    /// Neither encryption nor authentication, and yet open to other machines, because the user
    /// said so.
    Insecure,
    /// CURVE: both sides prove who they are, and everything is encrypted.
    Curve(Arc<CurveConfig>),
}

/// The keys of one side, and whom it trusts.
#[derive(Debug)]
pub struct CurveConfig {}
