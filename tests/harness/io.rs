//! Files, connections, and waiting for operations.

use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};

/// A file without a name, with contents.
pub(crate) fn file_with(contents: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(contents)?;
    Ok(file)
}

/// Two ends of a TCP connection, made by std.
pub(crate) fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    Ok((a, b))
}

/// Two ends of a TCP connection as this crate's handles.
pub(crate) fn corio_tcp_pair() -> io::Result<(corio::net::TcpStream, corio::net::TcpStream)> {
    let (a, b) = tcp_pair()?;
    Ok((a.into(), b.into()))
}

/// Lets spawned tasks run, and the operations that they started reach the kernel.
pub(crate) async fn settle() {
    for _ in 0..3 {
        corio::op::AsyncNop::new().await.expect("nothing can fail");
    }
}

/// Waits until nothing is in flight, without polling any of it.
pub(crate) async fn ended() {
    for _ in 0..10_000 {
        if corio::stats().in_flight == 0 {
            return;
        }
        corio::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("still in flight: {:?}", corio::in_flight());
}

/// Fills a socket or pipe in non-blocking mode until it takes no more; returns the number of bytes.
pub(crate) fn fill(mut to: impl Write) -> io::Result<usize> {
    let chunk = [0x55; 4096];
    let mut total = 0;
    loop {
        match to.write(&chunk) {
            Ok(len) => total += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}
