//! UDP on a host with several addresses: an answer leaves from the address that was asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as Client};

use corio::net::UdpSocket;
use corio::op::{AsyncSendmsg, PacketInfo};

use crate::harness::{Case, Outcome, assert_errno};

every_driver! {
    an_answer_leaves_from_the_address_that_was_asked,
    a_datagram_to_a_group_is_answered_from_an_own_address,
    the_destination_is_reported_only_if_it_was_asked_for,
    a_foreign_address_is_no_source,
    fds_and_a_source_do_not_go_together;
    cases: several_receives_keep_their_destinations_apart
}

/// The addresses of loopback, as IPv4 has a network of them.
const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 77, 1, 3)];

fn mapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn an_answer_leaves_from_the_address_that_was_asked() -> Outcome {
    for unspecified in ["0.0.0.0:0", "[::]:0"] {
        let server = UdpSocket::bind(unspecified)?;
        server.set_packet_info(true)?;
        let port = server.local_addr()?.port();
        for asked in ADDRESSES {
            // Not connected, so that an answer from elsewhere would arrive too.
            let client = Client::bind("127.0.0.1:0")?;
            client.send_to(b"question", (asked, port))?;
            let (result, bufs) = server.recv_msg([[0; 4], [0; 4]]).await;
            let received = result?;
            assert_eq!((received.len, &bufs.concat()[..]), (8, &b"question"[..]));
            let info = received.packet_info.expect("it was switched on");
            assert_eq!(info.destination.to_canonical(), IpAddr::V4(asked));
            assert_eq!(info.local, info.destination);
            assert_ne!(info.interface, 0);
            assert!(!received.control_truncated);

            let peer = received.address.expect("datagrams have a sender");
            let (result, _) = server.send_msg(["ans", "wer"]).to(peer).from(info).await;
            assert_eq!(result?, 6);
            let mut answer = [0; 16];
            let (len, source) = client.recv_from(&mut answer)?;
            assert_eq!(&answer[..len], b"answer");
            assert_eq!(source, SocketAddr::from((asked, port)), "{unspecified}");
        }
    }
    Ok(())
}

async fn a_datagram_to_a_group_is_answered_from_an_own_address() -> Outcome {
    let group = Ipv4Addr::new(239, 255, 77, 1);
    let server = std::net::UdpSocket::bind("0.0.0.0:0")?;
    if let Err(error) = server.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST) {
        eprintln!("left out: no multicast here: {error}");
        return Ok(());
    }
    let server = UdpSocket::from(server);
    server.set_packet_info(true)?;
    let client = socket2::Socket::from(Client::bind("127.0.0.1:0")?);
    client.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
    let client = Client::from(client);
    client.send_to(b"who?", (group, server.local_addr()?.port()))?;
    let (result, _) = server.recv_msg([[0; 4]]).await;
    let received = result?;
    let info = received.packet_info.expect("it was switched on");
    assert_eq!(info.destination, IpAddr::V4(group));
    assert!(!info.local.is_multicast());
    let peer = received.address.expect("datagrams have a sender");
    server.send_msg(["me"]).to(peer).from(info).await.0?;
    assert_eq!(client.recv_from(&mut [0; 9])?.1.ip(), info.local);
    Ok(())
}

async fn the_destination_is_reported_only_if_it_was_asked_for() -> Outcome {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    for on in [false, true, false] {
        server.set_packet_info(on)?;
        client.send_to("x", server.local_addr()?).await.0?;
        let (result, _) = server.recv_msg([[0; 1]]).await;
        let received = result?;
        assert_eq!(received.packet_info.is_some(), on);
        assert_eq!(received.address.and_then(|peer| peer.as_inet()), Some(client.local_addr()?));
    }
    Ok(())
}

async fn a_foreign_address_is_no_source() -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let foreign: IpAddr = "192.0.2.1".parse()?;
    let there: SocketAddr = (Ipv4Addr::LOCALHOST, 9).into();
    let (result, _) = socket.send_msg(["x"]).to(there).from(foreign).await;
    // The number depends on the routes of the host.
    result.expect_err("not an address of this host");
    // An own one needs no datagram received before.
    let client = Client::bind("127.0.0.1:0")?;
    let own = IpAddr::V4(ADDRESSES[2]);
    socket.send_msg(["x"]).to(mapped(client.local_addr()?)).from(own).await.0?;
    assert_eq!(client.recv_from(&mut [0; 9])?.1.ip(), own);
    Ok(())
}

async fn fds_and_a_source_do_not_go_together() -> Outcome {
    let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    let file = std::fs::File::open("/dev/null")?;
    let source = PacketInfo::from(IpAddr::V4(ADDRESSES[0]));
    let sending = AsyncSendmsg::new(&a, ["x"]).fds([file.into()]).from(source);
    assert_errno(sending.await.0, libc::EINVAL);
    Ok(())
}

fn several_receives_keep_their_destinations_apart(case: Case) -> Outcome {
    case.context().block_on(async {
        let server = UdpSocket::bind("0.0.0.0:0")?;
        server.set_packet_info(true)?;
        let client = Client::bind("127.0.0.1:0")?;
        let receives = ADDRESSES.map(|_| server.recv_msg([[0; 1]]));
        let port = server.local_addr()?.port();
        for (index, asked) in ADDRESSES.into_iter().enumerate() {
            client.send_to(&[index as u8], (asked, port))?;
        }
        for (result, [[index]]) in corio::join_all(receives).await {
            let info = result?.packet_info.expect("it was switched on");
            assert_eq!(info.destination, IpAddr::V4(ADDRESSES[index as usize]));
        }
        Ok(())
    })
}
