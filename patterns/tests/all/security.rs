//! CURVE over real sockets: who gets in, and what those are told who do not.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mutirao::security::{Allow, CurveConfig, KeyPair, PublicKey, Security, keygen};
use mutirao::transport::{LinkEvent, Role, Side, SocketOptions, open};

use crate::support::*;

/// The keys of a server and of a client that it allows.
struct Keys {
    server: KeyPair,
    client: KeyPair,
}

impl Keys {
    fn new() -> Keys {
        let [server, client] = [0, 1].map(|_| KeyPair::generate().expect("CURVE"));
        Keys { server, client }
    }

    fn server(&self) -> SocketOptions {
        let allow = Allow::Keys([*self.client.public()].into());
        curve(CurveConfig {
            keys: self.server.clone(),
            server: None,
            allow: Some(allow),
        })
    }

    fn client(&self) -> SocketOptions {
        client(&self.client, self.server.public())
    }
}

fn client(keys: &KeyPair, server: &PublicKey) -> SocketOptions {
    curve(CurveConfig {
        keys: keys.clone(),
        server: Some(*server),
        allow: None,
    })
}

fn curve(config: CurveConfig) -> SocketOptions {
    SocketOptions {
        security: Security::Curve(Arc::new(config)),
        reconnect_max: Duration::from_millis(100),
        linger: Duration::ZERO,
        ..watching()
    }
}

/// What the listening and the connecting side are told when they do not get along.
fn refusals(server: &SocketOptions, client: &SocketOptions) -> (String, String) {
    let mut pull = bound(Role::Pull, "tcp", server);
    let mut push = connected(Role::Push, &*pull, client);
    send_texts(&mut *push, &["secret"]);
    let reasons = (refusal(&mut *pull), refusal(&mut *push));
    assert!(pull.receive().unwrap().is_none(), "the message got through");
    reasons
}

#[test]
fn allowed_keys_get_in() {
    let keys = Keys::new();
    for scheme in ["tcp", "ipc"] {
        let mut pull = bound(Role::Pull, scheme, &keys.server());
        let mut push = connected(Role::Push, &*pull, &keys.client());
        assert_eq!(link_event(&mut *push), LinkEvent::Connected);
        send_texts(&mut *push, &["secret"]);
        assert_eq!(receive_texts(&mut *pull), ["secret"]);
    }
}

#[test]
fn curve_may_listen_beyond_this_machine() {
    let endpoint = "tcp://*:*".parse().unwrap();
    let pull = open(Role::Pull, Side::Bind, &endpoint, &Keys::new().server());
    assert!(pull.is_ok_and(|pull| pull.endpoint().port().is_some_and(|port| port > 0)));
}

#[test]
fn a_wrong_server_key_is_told_to_both() {
    let keys = Keys::new();
    let wrong = KeyPair::generate().unwrap();
    let (server, client) = refusals(&keys.server(), &client(&keys.client, wrong.public()));
    assert!(
        server.contains("expects another server key than ours"),
        "{server}"
    );
    assert!(
        server.contains(&keys.server.public().to_string()),
        "{server}"
    );
    assert!(client.contains("the server key that we expect"), "{client}");
    assert!(client.contains(&wrong.public().to_string()), "{client}");
}

#[test]
fn a_client_without_keys_is_told_to_both() {
    let (server, client) = refusals(&Keys::new().server(), &watching());
    assert!(server.contains("does not use CURVE and we do"), "{server}");
    assert!(client.contains("uses CURVE and we do not"), "{client}");
}

#[test]
fn a_server_without_keys_is_told_to_both() {
    let (server, client) = refusals(&watching(), &Keys::new().client());
    assert!(server.contains("uses CURVE and we do not"), "{server}");
    assert!(client.contains("does not use CURVE and we do"), "{client}");
}

#[test]
fn a_key_that_is_not_allowed_is_told_to_both() {
    let keys = Keys::new();
    let stranger = KeyPair::generate().unwrap();
    let (server, client) = refusals(&keys.server(), &client(&stranger, keys.server.public()));
    for reason in [&server, &client] {
        assert!(reason.contains(&stranger.public().to_string()), "{reason}");
    }
    assert!(server.contains("is not allowed"), "{server}");
    assert!(client.contains("does not allow our public key"), "{client}");
}

#[test]
fn a_key_may_be_allowed_later() {
    let folder = tempfile::tempdir().unwrap();
    let files = keygen(&folder, "worker").unwrap();
    let worker = KeyPair::load(&files.secret).unwrap();
    let allowed = tempfile::tempdir().unwrap();
    let keys = KeyPair::generate().unwrap();
    let allow = Some(Allow::Folder(allowed.path().to_path_buf()));
    let client = client(&worker, keys.public());
    let mut pull = bound(
        Role::Pull,
        "tcp",
        &curve(CurveConfig {
            keys,
            server: None,
            allow,
        }),
    );
    let mut push = connected(Role::Push, &*pull, &client);
    assert!(refusal(&mut *push).contains("does not allow"));
    let told = refusal(&mut *pull);
    assert!(told.contains(&format!(
        "copy its .pub file into {}",
        allowed.path().display()
    )));
    fs::copy(files.public, allowed.path().join("worker.pub")).unwrap();
    assert_eq!(link_event(&mut *push), LinkEvent::Connected);
    send_texts(&mut *push, &["at last"]);
    assert_eq!(receive_texts(&mut *pull), ["at last"]);
}

#[test]
fn a_subscriber_that_is_let_in_later_still_gets_its_topics() {
    let keys = Keys::new();
    let allowed = tempfile::tempdir().unwrap();
    let allow = Some(Allow::Folder(allowed.path().to_path_buf()));
    let config = CurveConfig {
        keys: keys.server.clone(),
        server: None,
        allow,
    };
    let mut publisher = bound(Role::Publish, "tcp", &curve(config));
    let mut subscriber = connected(Role::Subscribe, &*publisher, &keys.client());
    for topic in [b"a", b"b"] {
        subscriber.subscribe(topic).unwrap();
    }
    subscriber.unsubscribe(b"a").unwrap();
    refusal(&mut *subscriber);
    let text = keys.client.public().to_string();
    fs::write(allowed.path().join("late.pub"), text).unwrap();
    assert_eq!(link_event(&mut *subscriber), LinkEvent::Connected);
    assert_eq!(receive_texts(&mut *publisher), ["\u{1}b"]);
    send_texts(&mut *publisher, &["b1"]);
    assert_eq!(receive_texts(&mut *subscriber), ["b1"]);
}

#[test]
fn nobody_is_let_in_without_a_list() {
    let keys = Keys::new();
    let config = |allow| {
        curve(CurveConfig {
            keys: keys.server.clone(),
            server: None,
            allow,
        })
    };
    let error = open_error(Role::Pull, Side::Bind, "tcp://127.0.0.1:*", &config(None));
    assert!(
        error
            .to_string()
            .contains("name a folder with their .pub files"),
        "{error}"
    );
    let missing = Some(Allow::Folder("/nowhere".into()));
    let error = open_error(
        Role::Pull,
        Side::Bind,
        "tcp://127.0.0.1:*",
        &config(missing),
    );
    assert!(
        error.to_string().contains("/nowhere is not a folder"),
        "{error}"
    );
    let error = open_error(
        Role::Pull,
        Side::Connect,
        "tcp://127.0.0.1:1",
        &config(None),
    );
    assert!(
        error.to_string().contains("the server's public key"),
        "{error}"
    );
}

#[test]
fn listening_beyond_this_machine_needs_keys_or_a_word() {
    for text in ["tcp://*:*", "tcp://0.0.0.0:*", "tcp://[::]:*"] {
        let error = open_error(Role::Pull, Side::Bind, text, &SocketOptions::default());
        assert!(error.to_string().contains("give CURVE keys"), "{error}");
    }
    let insecure = SocketOptions {
        security: Security::Insecure,
        ..SocketOptions::default()
    };
    let endpoint = "tcp://*:*".parse().unwrap();
    assert!(open(Role::Pull, Side::Bind, &endpoint, &insecure).is_ok());
}
