//! The system's sockets: where they are bound, what they are connected to, which group they join.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::endpoint::Endpoint;
use crate::transport::{TransportError, sys};

/// What the system is asked to keep for a socket, in bytes, in each direction; it may give less.
const BUFFER_BYTES: usize = 4 << 20;

/// Routers that a datagram to a group may pass: none.
const GROUP_HOPS: u32 = 1;

fn new(address: SocketAddr) -> io::Result<RawSocket> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // As much as there is; more is only better.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    sys::datagrams::merge(&socket);
    Ok(socket)
}

/// What the system keeps for a socket that has not been read, in bytes of data as far as can be told.
pub(super) fn room(socket: &UdpSocket) -> usize {
    // Half of it is for what the system itself needs.
    socket2::SockRef::from(socket)
        .recv_buffer_size()
        .map_or(0, |bytes| bytes / 2)
}

fn anywhere(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A socket that talks to `peer` alone.
pub(super) fn towards(peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(peer)?;
    socket.connect(&peer.into())?;
    Ok(socket.into())
}

/// The group that an endpoint names, if it does.
pub(super) fn group(endpoint: &Endpoint) -> Option<IpAddr> {
    let ip: IpAddr = endpoint.host()?.parse().ok()?;
    ip.is_multicast().then_some(ip)
}

/// A socket that listens at an endpoint.
pub(super) fn at(endpoint: &Endpoint) -> Result<UdpSocket, TransportError> {
    let unusable = |reason: &str| TransportError::Unusable {
        endpoint: endpoint.clone(),
        reason: reason.into(),
    };
    let host = match endpoint.host() {
        Some("*") | None => "0.0.0.0",
        Some(host) => host,
    };
    let port = endpoint.port().unwrap_or(0);
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|_| unusable("the host does not resolve"))?;
    let address = addresses.next();
    let address = address.ok_or_else(|| unusable("the host has no address"))?;
    let bound = new(address).and_then(|socket| socket.bind(&address.into()).map(|()| socket));
    match bound {
        Ok(socket) => Ok(socket.into()),
        Err(error) => Err(match error.kind() {
            ErrorKind::AddrInUse => TransportError::InUse {
                endpoint: endpoint.clone(),
            },
            ErrorKind::AddrNotAvailable => unusable("the host is no address of this machine"),
            ErrorKind::PermissionDenied => unusable("ports below 1024 need more rights"),
            _ => unusable(&error.to_string()),
        }),
    }
}

/// A socket that sends to a group, on the interface of the default route; where there is none, to this machine
/// alone.
pub(super) fn to_group(group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(group)?;
    match group {
        SocketAddr::V4(_) => {
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_ttl_v4(GROUP_HOPS)?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_hops_v6(GROUP_HOPS)?;
        }
    }
    socket.bind(&anywhere(group).into())?;
    if group.is_ipv4() && !has_route(group) {
        socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
    }
    Ok(socket.into())
}

/// A socket that hears a group; several of one machine may.
pub(super) fn in_group(group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(group)?;
    socket.set_reuse_address(true)?;
    socket.bind(&group.into())?;
    match group.ip() {
        IpAddr::V4(ip) => {
            let interface = match has_route(group) {
                true => Ipv4Addr::UNSPECIFIED,
                false => Ipv4Addr::LOCALHOST,
            };
            socket.join_multicast_v4(&ip, &interface)?;
        }
        IpAddr::V6(ip) => socket.join_multicast_v6(&ip, 0)?,
    }
    Ok(socket.into())
}

/// Whether the system knows a way to the group.
fn has_route(group: SocketAddr) -> bool {
    towards(group).is_ok()
}
