//! UDP sockets: datagrams stay whole and carry their sender's address.

use std::time::Duration;

use corio::net::UdpSocket;

use crate::harness::{Outcome, assert_errno, assert_kind, errno, noise};

every_driver! {
    datagrams_travel_both_ways,
    datagrams_stay_apart,
    connected_sockets_send_without_an_address,
    a_connected_socket_receives_from_its_peer_only,
    the_part_of_a_datagram_that_does_not_fit_is_lost,
    a_datagram_that_is_too_long_is_refused,
    an_address_in_use_is_refused,
    datagrams_travel_over_ipv6,
    a_cancelled_receive_loses_nothing,
}

// Wine does not report the refusal.
#[cfg(unix)]
every_driver! { a_receive_after_a_refused_send_is_refused }

fn bound() -> std::io::Result<UdpSocket> {
    UdpSocket::bind("127.0.0.1:0")
}

async fn datagrams_travel_both_ways() -> Outcome {
    let (a, b) = (bound()?, bound()?);
    for len in [0, 1, 1400, 60_000] {
        let (result, sent) = a.send_to(noise(len), b.local_addr()?).await;
        assert_eq!((result?, &sent), (len, &noise(len)));
        let (result, buf) = b.recv_from(Vec::with_capacity(65_535)).await;
        let (received, peer) = result?;
        assert_eq!(received, len);
        assert_eq!(peer, a.local_addr()?);
        assert!(buf == noise(len));
        let (result, _) = b.send_to(buf, peer).await;
        assert_eq!(result?, len);
        let (result, buf) = a.recv_from(Vec::with_capacity(65_535)).await;
        let (received, peer) = result?;
        assert_eq!(received, len);
        assert_eq!(peer, b.local_addr()?);
        assert!(buf == noise(len));
    }
    Ok(())
}

async fn datagrams_stay_apart() -> Outcome {
    let (a, b) = (bound()?, bound()?);
    for text in ["one", "", "three"] {
        a.send_to(text, b.local_addr()?).await.0?;
    }
    for text in ["one", "", "three"] {
        let (result, buf) = b.recv_from(Vec::with_capacity(100)).await;
        assert_eq!((result?.0, &buf[..]), (text.len(), text.as_bytes()));
    }
    Ok(())
}

async fn connected_sockets_send_without_an_address() -> Outcome {
    let (a, b) = (bound()?, bound()?);
    let error = a.send("to whom?").await.0.expect_err("no peer");
    if cfg!(unix) {
        assert_eq!(error.raw_os_error(), Some(errno::EDESTADDRREQ));
    }
    a.connect(b.local_addr()?)?;
    b.connect(a.local_addr()?)?;
    assert_eq!(a.send("hello").await.0?, 5);
    let (result, buf) = b.recv(Vec::with_capacity(100)).await;
    assert_eq!((result?, &buf[..]), (5, &b"hello"[..]));
    // A connected socket still returns the sender's address.
    b.send("and back").await.0?;
    let (result, buf) = a.recv_from(Vec::with_capacity(100)).await;
    let (len, peer) = result?;
    assert_eq!((len, &buf[..]), (8, &b"and back"[..]));
    assert_eq!(peer, b.local_addr()?);
    Ok(())
}

async fn a_connected_socket_receives_from_its_peer_only() -> Outcome {
    let (a, b, stranger) = (bound()?, bound()?, bound()?);
    b.connect(a.local_addr()?)?;
    stranger.send_to("hear me", b.local_addr()?).await.0?;
    a.send_to("from a friend", b.local_addr()?).await.0?;
    let (result, buf) = b.recv(Vec::with_capacity(100)).await;
    assert_eq!((result?, &buf[..]), (13, &b"from a friend"[..]));
    Ok(())
}

async fn the_part_of_a_datagram_that_does_not_fit_is_lost() -> Outcome {
    let (a, b) = (bound()?, bound()?);
    a.send_to("too much", b.local_addr()?).await.0?;
    a.send_to("next", b.local_addr()?).await.0?;
    let (result, buf) = b.recv_from([0; 3]).await;
    assert_eq!((result?.0, &buf), (3, b"too"));
    let (result, buf) = b.recv_from([0; 4]).await;
    assert_eq!((result?.0, &buf), (4, b"next"));
    Ok(())
}

async fn a_datagram_that_is_too_long_is_refused() -> Outcome {
    let (a, b) = (bound()?, bound()?);
    let (result, buf) = a.send_to(noise(70_000), b.local_addr()?).await;
    assert_errno(result, errno::EMSGSIZE);
    assert!(buf == noise(70_000), "the buffer comes back");
    Ok(())
}

async fn an_address_in_use_is_refused() -> Outcome {
    let first = std::net::UdpSocket::bind("127.0.0.1:0")?;
    assert_errno(UdpSocket::bind(first.local_addr()?), errno::EADDRINUSE);
    assert_kind(UdpSocket::bind(&[][..]), std::io::ErrorKind::InvalidInput);
    Ok(())
}

async fn datagrams_travel_over_ipv6() -> Outcome {
    let (a, b) = match UdpSocket::bind("[::1]:0") {
        Ok(a) => (a, UdpSocket::bind("[::1]:0")?),
        Err(error) => {
            eprintln!("left out: no IPv6 here: {error}");
            return Ok(());
        }
    };
    a.send_to("hello", b.local_addr()?).await.0?;
    let (result, buf) = b.recv_from(Vec::with_capacity(100)).await;
    let (len, peer) = result?;
    assert_eq!((len, &buf[..]), (5, &b"hello"[..]));
    assert_eq!(peer, a.local_addr()?);
    Ok(())
}

async fn a_cancelled_receive_loses_nothing() -> Outcome {
    let (a, b) = (bound()?, bound()?);
    let receive = b.recv(Vec::with_capacity(100)).with_timeout(Duration::from_millis(1));
    assert_kind(receive.await.0, std::io::ErrorKind::TimedOut);
    a.send_to("later", b.local_addr()?).await.0?;
    let (result, buf) = b.recv_from(Vec::with_capacity(100)).await;
    assert_eq!((result?.0, &buf[..]), (5, &b"later"[..]));
    Ok(())
}

#[cfg(unix)]
async fn a_receive_after_a_refused_send_is_refused() -> Outcome {
    // It hears only itself. (Were its port closed, another socket could be given it.)
    let deaf = bound()?;
    deaf.connect(deaf.local_addr()?)?;
    let a = bound()?;
    a.connect(deaf.local_addr()?)?;
    a.send("hello?").await.0?;
    let (result, _) = a.recv(Vec::with_capacity(100)).await;
    assert_kind(result, std::io::ErrorKind::ConnectionRefused);
    Ok(())
}
