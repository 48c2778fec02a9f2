//! The services `mmi.*`, by which clients ask the broker about itself.
//!
//! Source: [RFC 8](https://rfc.zeromq.org/spec/8/), which gives the broker every service that begins
//! with `mmi.`, and knows one: `mmi.service`.

use super::service_name;
use crate::transport::Frame;

/// What the names of the broker's own services begin with.
pub const PREFIX: &str = "mmi.";

/// What the broker answers, as the one frame of the reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `200`: a worker is registered for the service.
    Found,
    /// `404`: none is.
    NotFound,
    /// `501`: the broker has no such service.
    NotImplemented,
}

impl Answer {
    /// The three digits.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Answer::Found => "200",
            Answer::NotFound => "404",
            Answer::NotImplemented => "501",
        }
    }

    /// The frame that carries it.
    #[must_use]
    pub fn frame(self) -> Frame {
        Frame::from(self.code().as_bytes())
    }

    /// Reads the body of a reply; `None` if it is none of these.
    #[must_use]
    pub fn read(body: &[Frame]) -> Option<Answer> {
        let all = [Answer::Found, Answer::NotFound, Answer::NotImplemented];
        let code = body.last()?;
        all.into_iter()
            .find(|answer| answer.code().as_bytes() == &**code)
    }
}

/// Whether the broker answers for that service itself, and must disconnect a worker that registers for
/// it.
#[must_use]
pub fn is_reserved(service: &str) -> bool {
    service.starts_with(PREFIX)
}

/// What the broker answers to a request to the `mmi.*` service.
///
/// `registered` tells whether there is a worker for a service, idle or busy, and should say yes to those
/// that the broker serves itself, as it may do with Titanic.
///
/// RFC 8 has no answer to a body that cannot be a service name: there is no worker for it, so `404`. Of
/// several frames the last is the name, as with the Guide's brokers.
#[must_use]
pub fn answer(service: &str, body: &[Frame], registered: impl FnOnce(&str) -> bool) -> Answer {
    if service != "mmi.service" {
        return Answer::NotImplemented;
    }
    match body.last().map(|name| service_name(name)) {
        Some(Ok(name)) if registered(name) => Answer::Found,
        _ => Answer::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{frames, noise};
    use super::*;

    fn code(service: &str, body: &[Frame]) -> &'static str {
        answer(service, body, |name| name == "echo").code()
    }

    #[test]
    fn mmi_service_tells_whether_a_worker_is_registered() {
        assert_eq!(code("mmi.service", &frames([b"echo"])), "200");
        assert_eq!(code("mmi.service", &frames([b"coffee"])), "404");
        assert_eq!(code("mmi.service", &frames([b"", b"echo"])), "200");
    }

    #[test]
    fn a_name_that_no_service_can_have_is_not_found() {
        let anything = |body: &[Frame]| answer("mmi.service", body, |_| true);
        assert_eq!(anything(&[]), Answer::NotFound);
        assert_eq!(anything(&frames([b""])), Answer::NotFound);
        assert_eq!(anything(&frames([b"\xff"])), Answer::NotFound);
        assert_eq!(anything(&frames([&[b'x'; 256]])), Answer::NotFound);
    }

    #[test]
    fn other_services_of_the_namespace_are_not_implemented() {
        for service in ["mmi.", "mmi.workers", "mmi.service ", "mmi.SERVICE"] {
            assert!(is_reserved(service));
            assert_eq!(code(service, &frames([b"echo"])), "501");
        }
        assert!(!is_reserved("mmi") && !is_reserved("MMI.service") && !is_reserved("echo"));
    }

    proptest! {
        #[test]
        fn answers_survive_the_round_trip_and_noise_never_panics(message in noise()) {
            let given = answer("mmi.service", &message, |name| name.len() > 4);
            prop_assert_eq!(Answer::read(&[given.frame()]), Some(given));
            let _ = Answer::read(&message);
        }
    }
}
