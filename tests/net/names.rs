//! Name resolution, and connecting to one of several addresses.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use corio::net::{TcpStream, resolve};
use corio::timeout;

use crate::harness::{LONG, refusing};

/// Returns an address that does not answer, as its listener's queue is full, and the sockets that
/// keep it full.
#[cfg(target_os = "linux")]
fn silent() -> (SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    for _ in 0..8 {
        let filler =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        fillers.push(filler);
    }
    (address, (socket, fillers))
}

every_driver! {
    fn names_are_resolved(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let literal = resolve("[::1]:443").await.unwrap();
            assert_eq!(literal, [SocketAddr::from((Ipv6Addr::LOCALHOST, 443))]);
            let local = resolve("localhost:80").await.unwrap();
            assert!(local.iter().all(|address| address.port() == 80));
            let error = resolve("no port").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(resolve("name.invalid:80").await.is_err());
        });
    }

    fn connect_host_connects_to_a_name(builder) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let stream = TcpStream::connect(format!("localhost:{port}")).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
            let stream = TcpStream::connect(("localhost", port)).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        });
    }

    fn after_a_refusal_the_next_address_is_tried_at_once(builder) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        // With the full delay before each further attempt, this would take a minute.
        let (refused, _kept) = refusing().unwrap();
        let mut addresses = vec![refused; 240];
        addresses.push(good);
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let began = std::time::Instant::now();
            let stream = timeout(LONG, TcpStream::connect(&addresses)).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            assert!(began.elapsed().as_secs() < 30);
            assert_eq!(corio::stats().in_flight, 0);
        });
    }

    #[cfg(target_os = "linux")]
    fn an_address_that_does_not_answer_is_skipped(builder) {
        let (silent, _keep) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let addresses = [silent, silent, good];
            let stream = timeout(LONG, TcpStream::connect(&addresses)).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            assert_eq!(corio::stats().in_flight, 0, "those that have not won are cancelled");
        });
    }

    fn the_error_lists_every_address_that_failed(builder) {
        let ((one, _kept), (other, _other_kept)) = (refusing().unwrap(), refusing().unwrap());
        let mut context = builder.build().unwrap();
        context.block_on(async {
            let error = TcpStream::connect([one, other]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let text = error.to_string();
            assert!(text.contains(&one.to_string()) && text.contains(&other.to_string()), "{text}");
            let error = TcpStream::connect([]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        });
    }
}
