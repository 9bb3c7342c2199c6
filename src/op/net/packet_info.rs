//! Where datagrams were sent to, and where they are sent from, in the control data of messages.

// # Why this file has `unsafe`
// It writes and reads the kernel's format of control data.

use std::net::IpAddr;
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::os;

/// The destination of a received datagram: which of the host's addresses it was sent to, and on
/// which interface it arrived.
///
/// A socket that is bound to an unspecified address (`0.0.0.0`, `[::]`) receives what is sent to
/// any of the host's addresses. An answer goes out from the address that the system prefers, which
/// may be another one, and clients drop an answer from there. Pass this value to
/// [`AsyncSendmsg::from`](crate::op::AsyncSendmsg::from) to answer from the right one.
///
/// [`UdpSocket::set_packet_info`](crate::net::UdpSocket::set_packet_info) has an example.
#[doc(alias = "IP_PKTINFO")]
#[doc(alias = "IPV6_PKTINFO")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PacketInfo {
    /// The destination in the datagram's header: an address of this host, or a multicast or
    /// broadcast address.
    pub destination: IpAddr,
    /// The address of this host to answer from; unspecified, so that the system chooses, if the
    /// destination is an IPv6 multicast address.
    pub local: IpAddr,
    /// The index of the interface; 0: any. It selects the interface of a datagram that is sent only
    /// where `local` is a link-local IPv6 address.
    pub interface: u32,
}

impl From<IpAddr> for PacketInfo {
    /// Sends from an address of this host, on any interface.
    fn from(local: IpAddr) -> Self {
        PacketInfo { destination: local, local, interface: 0 }
    }
}

/// Control data that holds the larger of both structures.
pub(super) type Control = [u64; 5];

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
const _: () = {
    // SAFETY: computes a number.
    let len = unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) };
    assert!(len as usize <= size_of::<Control>());
};

/// Writes control data that selects the address to send from; returns its length in bytes.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(super) fn write(info: &PacketInfo, control: &mut Control) -> usize {
    match info.local {
        IpAddr::V4(address) => {
            let s_addr = u32::from_ne_bytes(address.octets());
            let data = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_one(libc::IPPROTO_IP, libc::IP_PKTINFO, data, control)
        }
        IpAddr::V6(address) => {
            let interface = if address.is_unicast_link_local() { info.interface } else { 0 };
            let data = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: interface,
            };
            write_one(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data, control)
        }
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn write_one<T: Copy>(level: i32, kind: i32, data: T, control: &mut Control) -> usize {
    let len = size_of::<T>() as u32;
    // SAFETY: computes a number.
    let space = unsafe { libc::CMSG_SPACE(len) } as usize;
    assert!(space <= size_of::<Control>());
    *control = Control::default();
    let mut header = os::EMPTY_HEADER;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = space as _;
    // SAFETY: `control` has room for one header and the data, as was checked, and is aligned for
    // the header.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(len) as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(data);
    }
    space
}

/// Finds the destination in control data.
///
/// # Safety
/// The header's control data was written by the kernel.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(super) unsafe fn received(header: &os::msghdr) -> Option<PacketInfo> {
    // SAFETY: `CMSG_*` walk the control data within its length; a message of such a level and type
    // holds the structure that is read, if it is as long.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(this) = message.as_ref() {
            #[allow(clippy::unnecessary_cast)] // The type differs from host to host.
            let len = (this.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let data = libc::CMSG_DATA(this);
            match (this.cmsg_level, this.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if len >= size_of::<libc::in_pktinfo>() => {
                    return Some(of_v4(data.cast::<libc::in_pktinfo>().read_unaligned()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                    if len >= size_of::<libc::in6_pktinfo>() =>
                {
                    return Some(of_v6(data.cast::<libc::in6_pktinfo>().read_unaligned()));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn of_v4(info: libc::in_pktinfo) -> PacketInfo {
    let address = |of: libc::in_addr| Ipv4Addr::from(of.s_addr.to_ne_bytes()).into();
    PacketInfo {
        destination: address(info.ipi_addr),
        local: address(info.ipi_spec_dst),
        interface: info.ipi_ifindex as u32,
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn of_v6(info: libc::in6_pktinfo) -> PacketInfo {
    let destination = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    let local = if destination.is_multicast() { Ipv6Addr::UNSPECIFIED } else { destination };
    PacketInfo {
        destination: destination.into(),
        local: local.into(),
        interface: info.ipi6_ifindex,
    }
}

/// This host has no such control data, or none of this form.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn write(_: &PacketInfo, _: &mut Control) -> usize {
    0
}

/// # Safety
/// Nothing is required; on other hosts it is.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) unsafe fn received(_: &os::msghdr) -> Option<PacketInfo> {
    None
}
