//! TLS connections, by rustls.

// # Why this file has `unsafe`
// It fills buffers that need not be initialised.

use std::io::{self, BufRead, Write};
use std::net::Shutdown;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::Stream;
use crate::buf::{IoBuf, IoBufMut};
use crate::op::no_room;
use crate::runtime::poll_budget::consume_budget;

/// The length of the longest record in bytes, with its header: RFC 8446, section 5.2.
const RECORD: usize = 16 * 1024 + 256 + 5;

/// A TLS connection, by [rustls](https://docs.rs/rustls); needs the feature `rustls`.
///
/// Sending and receiving take `&mut self`, as each may have to do the other, too. After a
/// cancellation the next call continues where the cancelled one was: received bytes are not lost,
/// and records that were made are sent before others.
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
    /// Received bytes, encrypted; those before `used` have been decrypted.
    incoming: Vec<u8>,
    used: usize,
    /// Bytes to be sent, encrypted; those before `sent` have been sent.
    outgoing: Vec<u8>,
    sent: usize,
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl TlsStream {
    /// Performs the server's side of the handshake with a client that has connected.
    ///
    /// # Errors
    /// The connection's error; `UnexpectedEof` if the client closed it; `InvalidData` with a
    /// [`rustls::Error`] if the client violates the protocol, or the two have no version or cipher
    /// in common, after an alert was sent to the client.
    ///
    /// # Examples
    /// ```
    /// use std::{io, sync::Arc};
    /// use corio::net::{TcpListener, TlsStream};
    ///
    /// async fn greet(
    ///     listener: &TcpListener,
    ///     config: Arc<rustls::ServerConfig>,
    /// ) -> io::Result<()> {
    ///     let (stream, _peer) = listener.accept().await?;
    ///     let mut stream = TlsStream::accept(stream, config).await?;
    ///     stream.send_all("welcome").await.0?;
    ///     stream.shutdown().await
    /// }
    /// ```
    pub async fn accept(
        stream: impl Into<Stream>,
        config: Arc<ServerConfig>,
    ) -> io::Result<TlsStream> {
        let tls = ServerConnection::new(config).map_err(invalid)?;
        Self::new(stream.into(), tls.into()).handshake().await
    }

    /// Performs the client's side of the handshake, and verifies that the server is `name`.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept); `InvalidData` also if the server's certificate is not
    /// accepted.
    ///
    /// # Examples
    /// See [`TlsStream`].
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

    /// Receives into `buf`, decrypted, from its start, up to its capacity; 0 bytes: the peer has
    /// ended its sending side with `close_notify`.
    ///
    /// # Errors
    /// The connection's error; `UnexpectedEof` if it ends without `close_notify`, which an attacker
    /// may have caused; `InvalidData` if the peer violates the protocol; `InvalidInput` if `buf`
    /// has no room.
    ///
    /// # Examples
    /// See [`TlsStream`].
    #[doc(alias = "read")]
    pub async fn recv<B: IoBufMut>(&mut self, mut buf: B) -> (io::Result<usize>, B) {
        consume_budget().await;
        let result = self.receive(&mut buf).await;
        (result, buf)
    }

    async fn receive(&mut self, buf: &mut impl IoBufMut) -> io::Result<usize> {
        if buf.buf_capacity() == 0 {
            return Err(no_room());
        }
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let len = plain.len().min(buf.buf_capacity());
                    // SAFETY: the buffer has room for that many bytes and is borrowed exclusively;
                    // after the copy they are initialised.
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
            // There may be something to send, such as the answer to a key update.
            self.flush().await?;
            self.fetch().await?;
        }
    }

    /// Sends the whole of `buf`, encrypted.
    ///
    /// # Errors
    /// The connection's error; how many bytes were sent before it is not known.
    ///
    /// # Examples
    /// See [`TlsStream`].
    #[doc(alias = "write_all")]
    pub async fn send_all<B: IoBuf>(&mut self, buf: B) -> (io::Result<()>, B) {
        consume_budget().await;
        let result = self.send_bytes(&buf).await;
        (result, buf)
    }

    async fn send_bytes(&mut self, buf: &impl IoBuf) -> io::Result<()> {
        // SAFETY: that many bytes are initialised, and stay so while the buffer is borrowed.
        let mut rest = unsafe { std::slice::from_raw_parts(buf.buf_ptr(), buf.buf_len()) };
        while !rest.is_empty() {
            // One record at a time, so that the bytes that wait to be sent are bounded.
            let part = rest.len().min(RECORD);
            let len = self.tls.writer().write(&rest[..part])?;
            rest = &rest[len..];
            self.flush().await?;
        }
        self.flush().await
    }

    /// Ends the sending side: sends `close_notify`, and shuts the connection's sending side down.
    /// Receiving remains possible.
    ///
    /// # Errors
    /// The connection's error.
    ///
    /// # Examples
    /// See [`TlsStream`].
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush().await?;
        self.stream.shutdown(Shutdown::Write).await
    }

    /// Returns rustls's connection, for what was negotiated: the protocol version, the cipher, the
    /// application protocol (ALPN), the peer's certificates.
    ///
    /// # Examples
    /// ```
    /// fn is_http2(stream: &corio::net::TlsStream) -> bool {
    ///     stream.connection().alpn_protocol() == Some(b"h2")
    /// }
    /// ```
    pub fn connection(&self) -> &Connection {
        &self.tls
    }

    /// Returns the connection that carries the encrypted bytes.
    ///
    /// # Examples
    /// ```
    /// fn log(stream: &corio::net::TlsStream) {
    ///     println!("{:?}", stream.stream());
    /// }
    /// ```
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends all encrypted bytes that wait to be sent.
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

    /// Receives once, and decrypts; returns the number of encrypted bytes that were used, 0 at the
    /// end of the connection.
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
            // Sends the alert, if the peer can still be reached.
            let _ = self.flush().await;
            return Err(invalid(error));
        }
        Ok(len)
    }
}
