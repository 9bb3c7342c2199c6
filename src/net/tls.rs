//! TLS over a connection, by rustls.
//!
//! # Why this file has `unsafe`
//! It fills buffers that need not be initialised.

use std::io::{self, BufRead, Write};
use std::net::Shutdown;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::Stream;
use crate::buf::{IoBuf, IoBufMut};

/// The longest record there is, with its header: RFC 8446, section 5.2.
const RECORD: usize = 16 * 1024 + 256 + 5;

/// A connection that is encrypted, by [rustls](https://docs.rs/rustls). Needs the feature `rustls`.
///
/// Sending and receiving take `&mut self`, as both may have to do the other, too. What was cancelled in
/// between goes on where it was: bytes that have come are not lost, and records that were made are sent
/// before others.
///
/// # Examples
/// ```
/// use std::{io, sync::Arc};
/// use corio::net::{TcpStream, TlsStream};
///
/// async fn get(config: Arc<rustls::ClientConfig>) -> io::Result<()> {
///     let stream = TcpStream::connect("example.org:443").await?;
///     let name = "example.org".try_into().map_err(io::Error::other)?;
///     let mut stream = TlsStream::connect(stream, config, name).await?;
///     stream.send_all("GET / HTTP/1.0\r\nHost: example.org\r\n\r\n").await.0?;
///     let (result, buf) = stream.recv(Vec::with_capacity(4096)).await;
///     println!("{}", String::from_utf8_lossy(&buf[..result?]));
///     stream.shutdown().await
/// }
/// ```
#[derive(Debug)]
pub struct TlsStream {
    stream: Stream,
    tls: Connection,
    /// Encrypted bytes that have come, from `used` on.
    incoming: Vec<u8>,
    used: usize,
    /// Encrypted bytes to be sent, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl TlsStream {
    /// Serves a client that has connected: the handshake, on the server's side.
    ///
    /// # Errors
    /// What the connection reports; `InvalidData` with a [`rustls::Error`] when the client does not keep to
    /// the protocol, or nothing was agreed upon. It has been told then. `UnexpectedEof` if it has gone.
    pub async fn accept(
        stream: impl Into<Stream>,
        config: Arc<ServerConfig>,
    ) -> io::Result<TlsStream> {
        let tls = ServerConnection::new(config).map_err(invalid)?;
        Self::new(stream.into(), tls.into()).handshake().await
    }

    /// Makes sure that the server is `name`: the handshake, on the client's side.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept); `InvalidData` also when the server's certificate is not accepted.
    pub async fn connect(
        stream: impl Into<Stream>,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<TlsStream> {
        let tls = ClientConnection::new(config, name).map_err(invalid)?;
        Self::new(stream.into(), tls.into()).handshake().await
    }

    fn new(stream: Stream, tls: Connection) -> Self {
        TlsStream { stream, tls, incoming: Vec::new(), used: 0, outgoing: Vec::new(), sent: 0 }
    }

    async fn handshake(mut self) -> io::Result<Self> {
        while self.tls.is_handshaking() {
            self.flush().await?;
            if self.tls.is_handshaking() && self.fetch().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush().await?;
        Ok(self)
    }

    /// Receives what was sent, decrypted; 0 bytes: the peer has ended its side, and said so.
    ///
    /// # Errors
    /// What the connection reports; `UnexpectedEof` when it ends without the peer saying so, which somebody
    /// between may have done; `InvalidData` when the peer does not keep to the protocol.
    pub async fn recv<B: IoBufMut>(&mut self, mut buf: B) -> (io::Result<usize>, B) {
        let result = self.receive(&mut buf).await;
        (result, buf)
    }

    async fn receive(&mut self, buf: &mut impl IoBufMut) -> io::Result<usize> {
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let len = plain.len().min(buf.buf_capacity());
                    // SAFETY: the buffer has room for that many bytes, nobody else has it, and after the
                    // copy they are initialised.
                    unsafe {
                        std::ptr::copy_nonoverlapping(plain.as_ptr(), buf.buf_mut_ptr(), len);
                        buf.set_filled(len);
                    }
                    reader.consume(len);
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            // Such as an answer to a change of keys.
            self.flush().await?;
            self.fetch().await?;
        }
    }

    /// Sends the whole of `buf`, encrypted.
    ///
    /// # Errors
    /// What the connection reports. How much has gone is not known then.
    pub async fn send_all<B: IoBuf>(&mut self, buf: B) -> (io::Result<()>, B) {
        let result = self.send_bytes(&buf).await;
        (result, buf)
    }

    async fn send_bytes(&mut self, buf: &impl IoBuf) -> io::Result<()> {
        // SAFETY: that many bytes are initialised, and stay so while the buffer is borrowed.
        let mut rest = unsafe { std::slice::from_raw_parts(buf.buf_ptr(), buf.buf_len()) };
        while !rest.is_empty() {
            // As much as one record at a time: what waits to be sent is bounded.
            let part = rest.len().min(RECORD);
            let len = self.tls.writer().write(&rest[..part])?;
            rest = &rest[len..];
            self.flush().await?;
        }
        self.flush().await
    }

    /// Ends the sending side: tells the peer that nothing more comes, and shuts the connection's sending side
    /// down. Receiving goes on.
    ///
    /// # Errors
    /// What the connection reports.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush().await?;
        self.stream.shutdown(Shutdown::Write).await
    }

    /// What was agreed upon: protocol, cipher, the application's protocol, the peer's certificates.
    pub fn connection(&self) -> &Connection {
        &self.tls
    }

    /// The connection below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends what there is to be sent.
    async fn flush(&mut self) -> io::Result<()> {
        loop {
            if self.sent == self.outgoing.len() {
                self.outgoing.clear();
                self.sent = 0;
                while self.tls.wants_write() {
                    self.tls.write_tls(&mut self.outgoing)?;
                }
                if self.outgoing.is_empty() {
                    return Ok(());
                }
            }
            let rest = std::mem::take(&mut self.outgoing).slice(self.sent..);
            let (result, rest) = self.stream.send(rest).await;
            self.outgoing = rest.into_inner();
            self.sent += result?;
        }
    }

    /// Receives once, and takes in what came; 0: the connection has ended.
    async fn fetch(&mut self) -> io::Result<usize> {
        if self.used == self.incoming.len() {
            self.incoming.clear();
            self.used = 0;
            let mut buf = std::mem::take(&mut self.incoming);
            buf.reserve(RECORD);
            let (result, buf) = self.stream.recv(buf).await;
            self.incoming = buf;
            if let Err(error) = result {
                self.incoming.clear();
                return Err(error);
            }
        }
        let mut rest = &self.incoming[self.used..];
        let len = self.tls.read_tls(&mut rest)?;
        self.used += len;
        if let Err(error) = self.tls.process_new_packets() {
            // The peer is told why, if it can still be reached.
            let _ = self.flush().await;
            return Err(invalid(error));
        }
        Ok(len)
    }
}
