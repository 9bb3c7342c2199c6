//! TCP, UDP and Unix sockets, with std's names.
//!
//! Reading and writing take `&self`, so one task can receive while another sends. A handle is
//! `Send` while nothing is in flight on it: an accepted connection can move to another thread's
//! context. Dropping a handle closes its socket, without waiting.
//!
//! Sockets in handles are in non-blocking mode (`O_NONBLOCK`), which shows when a handle's fd is
//! given away. Operations wait all the same.

mod addrs;
mod connect;
mod names;
mod polled;
mod relay;
mod socket;
mod stream;
mod tcp;
#[cfg(feature = "rustls")]
mod tls;
mod udp;
#[cfg(unix)]
mod unix;

pub use crate::address::SocketAddress;
pub use addrs::ToSocketAddrs;
pub(crate) use addrs::resolve_blocking;
pub use names::resolve;
pub use polled::{OwnedRecvStream, SendQueue, polled};
pub use relay::{RelayLimits, StreamSocket, relay, relay_with};
pub use socket::Socket;
pub use stream::Stream;
pub use tcp::{TcpListener, TcpStream};
#[cfg(feature = "rustls")]
pub use tls::TlsStream;
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix::{UnixListener, UnixStream};

use std::io;

use crate::driver::seams::sockets;
use crate::os::BorrowedFd;

/// The number of connections that may wait to be accepted; the kernel limits it further
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Implements what every socket handle has: the fd, and conversions from and to it. With `peer`,
/// its `Debug` shows the peer's address.
macro_rules! socket_handle {
    ($name:ident $(, $peer:ident)?) => {
        impl $name {
            /// Closes the socket, and returns the kernel's error, if any.
            ///
            /// # Errors
            /// What `close(2)` reports; `ResourceBusy` if an operation on this handle was leaked
            /// (`mem::forget`) while in flight, in which case the fd stays open for ever.
            #[track_caller]
            pub fn close(self) -> crate::op::AsyncClose {
                crate::op::AsyncClose::handle(self.0)
            }

            /// Returns the socket as a `socket2::SockRef`, to read and set its options.
            ///
            /// Afterwards some operations on the socket take another system call, since its mode
            /// may have been changed: a socket in blocking mode does not block the thread.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UdpSocket;
            /// let socket = UdpSocket::bind("127.0.0.1:0")?;
            /// socket.options().set_broadcast(true)?;
            /// assert!(socket.options().broadcast()?);
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub fn options(&self) -> socket2::SockRef<'_> {
                socket2::SockRef::from(self)
            }

            /// Borrows the fd for a use that changes neither its mode nor what a close does.
            #[allow(dead_code)] // Not all handles are used so.
            pub(crate) fn fd(&self) -> crate::os::BorrowedFd<'_> {
                crate::os::AsFd::as_fd(&self.0)
            }

            /// Returns `true` if other code may have set options.
            #[allow(dead_code)] // Not all handles are asked.
            pub(crate) fn is_exposed(&self) -> bool {
                self.0.is_exposed()
            }

            #[allow(dead_code)] // Some handles have an address of one family instead.
            fn local_address(&self) -> std::io::Result<crate::net::SocketAddress> {
                crate::net::local_address(self.fd())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut fields = f.debug_struct(stringify!($name));
                fields.field("fd", &self.0.raw());
                if let Ok(local) = self.local_address() {
                    fields.field("local", &local);
                }
                $(if let Ok($peer) = crate::net::peer_address(self.fd()) {
                    fields.field("peer", &$peer);
                })?
                fields.finish()
            }
        }

        impl crate::os::AsFd for $name {
            fn as_fd(&self) -> crate::os::BorrowedFd<'_> {
                self.0.hand_out();
                self.0.as_fd()
            }
        }

        #[cfg(unix)]
        impl crate::os::AsRawFd for $name {
            fn as_raw_fd(&self) -> crate::os::RawFd {
                self.0.hand_out();
                self.0.raw()
            }
        }

        impl From<crate::os::OwnedFd> for $name {
            /// Takes ownership of a socket of this kind, and puts it into non-blocking mode. If
            /// it has other owners, they have to leave it so: in blocking mode, `send_file` and
            /// [`relay`](crate::net::relay()) would block the thread.
            fn from(fd: crate::os::OwnedFd) -> Self {
                $name(crate::op::Descriptor::foreign_socket(fd))
            }
        }

        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $name {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.0.hand_out();
                self.0.as_socket()
            }
        }

        impl TryFrom<$name> for crate::os::OwnedFd {
            type Error = std::io::Error;

            /// Gives the fd away. Fails with `ResourceBusy` if an operation on the handle was
            /// leaked (`mem::forget`) while in flight.
            fn try_from(handle: $name) -> Result<Self, Self::Error> {
                Ok(handle.0.into_fd()?)
            }
        }

        impl<'a> From<&'a $name> for crate::op::Source<'a> {
            #[inline(always)]
            fn from(handle: &'a $name) -> Self {
                crate::op::Source::from(&handle.0)
            }
        }
    };
}
pub(crate) use socket_handle;

/// Implements what handles have that are always stream sockets. A [`Socket`] may be of any type: of
/// datagrams, an empty one would read as the end of the stream.
macro_rules! recv_stream {
    ($($name:ident),+) => {$(
        impl $name {
            /// Returns a stream of received buffers, in memory of the context: for readers that
            /// bring no buffer. See [`RecvStream`](crate::op::RecvStream).
            pub fn recv_stream(&self) -> crate::op::RecvStream<'_> {
                crate::op::RecvStream::new(&self.0)
            }
        }
    )+};
}
pub(crate) use recv_stream;

/// Returns a socket's own address.
fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddress> {
    sockets::local_address(socket).map(SocketAddress::from_sock_addr)
}

/// Returns the address of a socket's peer.
fn peer_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddress> {
    sockets::peer_address(socket).map(SocketAddress::from_sock_addr)
}

/// Implements the addresses of sockets that are IP sockets; with `peer`, also the peer's.
macro_rules! inet_handle {
    ($name:ident) => {
        impl $name {
            /// Returns the socket's own address.
            ///
            /// # Errors
            /// The error of `getsockname(2)`; `InvalidInput` if the socket was made from an fd
            /// that is not an IP socket.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UdpSocket;
            /// let socket = UdpSocket::bind("127.0.0.1:0")?;
            /// let address: std::net::SocketAddr = socket.local_addr()?;
            /// assert_ne!(address.port(), 0);
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[doc(alias = "getsockname")]
            pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
                self.local_address()?.to_inet()
            }
        }
    };
    ($name:ident, peer) => {
        inet_handle!($name);

        impl $name {
            /// Returns the peer's address.
            ///
            /// # Errors
            /// The error of `getpeername(2)`, such as `NotConnected`; `InvalidInput` if the socket
            /// was made from an fd that is not an IP socket.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::{TcpListener, TcpStream};
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let listener = TcpListener::bind("127.0.0.1:0")?;
            /// let stream = TcpStream::connect(listener.local_addr()?).await?;
            /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "getpeername")]
            pub fn peer_addr(&self) -> std::io::Result<std::net::SocketAddr> {
                crate::net::peer_address(self.fd())?.to_inet()
            }
        }
    };
}
pub(crate) use inet_handle;

/// Implements the addresses of sockets that may be of any family; with `peer`, also the peer's.
macro_rules! any_family_handle {
    ($name:ident) => {
        impl $name {
            /// Returns the socket's own address.
            ///
            /// # Errors
            /// The error of `getsockname(2)`.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::{Socket, SocketAddress};
            /// let socket = Socket::udp_v4()?;
            /// socket.bind(SocketAddress::v4([127, 0, 0, 1], 0))?;
            /// let address: SocketAddress = socket.local_addr()?;
            /// assert_ne!(address.port(), Some(0));
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[doc(alias = "getsockname")]
            pub fn local_addr(&self) -> std::io::Result<crate::net::SocketAddress> {
                self.local_address()
            }
        }
    };
    ($name:ident, peer) => {
        any_family_handle!($name);

        impl $name {
            /// Returns the peer's address.
            ///
            /// # Errors
            /// The error of `getpeername(2)`, such as `NotConnected`.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// let (a, _b) = UnixStream::pair()?;
            /// assert_eq!(a.peer_addr()?.to_string(), "(unnamed)");
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[doc(alias = "getpeername")]
            pub fn peer_addr(&self) -> std::io::Result<crate::net::SocketAddress> {
                crate::net::peer_address(self.fd())
            }
        }
    };
}
pub(crate) use any_family_handle;

/// Implements what every connected stream has.
macro_rules! stream_handle {
    ($name:ident) => {
        impl $name {
            /// Receives into `buf`, from its start, up to its capacity; 0 bytes: the peer has shut
            /// its sending side down.
            ///
            /// # Errors
            /// The error of `recv(2)`, such as `ConnectionReset`; `InvalidInput` if `buf` has no
            /// room.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, b) = UnixStream::pair()?;
            /// a.send("hello").await.0?;
            /// let (result, buf) = b.recv(Vec::with_capacity(64)).await;
            /// assert_eq!((result?, &buf[..]), (5, &b"hello"[..]));
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "read")]
            #[doc(alias = "try_read")]
            #[inline(always)]
            #[track_caller]
            pub fn recv<B: crate::buf::IoBufMut>(&self, buf: B) -> crate::op::AsyncRecv<'_, B> {
                crate::op::AsyncRecv::new(self, buf)
            }

            /// Receives behind the bytes that `buf` holds, and grows it if it is full; 0 bytes: the
            /// peer has shut its sending side down.
            ///
            /// # Errors
            /// The error of `recv(2)`, such as `ConnectionReset`; `buf` keeps its bytes.
            ///
            /// # Examples
            /// Receive until an empty line:
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, b) = UnixStream::pair()?;
            /// a.send_all("one\ntwo\n\n").await.0?;
            /// let mut head = Vec::new();
            /// while !head.ends_with(b"\n\n") {
            ///     let (result, longer) = b.recv_append(head).await;
            ///     head = longer;
            ///     assert!(result? > 0, "the stream has ended");
            /// }
            /// assert_eq!(head, b"one\ntwo\n\n");
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "read_buf")]
            #[doc(alias = "read_to_end")]
            #[track_caller]
            pub fn recv_append(&self, buf: Vec<u8>) -> crate::op::AsyncRecvAppend<'_> {
                crate::op::AsyncRecvAppend::new(self, buf)
            }

            /// Sends from `buf`, and returns how many bytes the system took, which may be fewer
            /// than there are.
            ///
            /// # Errors
            /// The error of `send(2)`, such as `BrokenPipe`; it raises no `SIGPIPE`.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, _b) = UnixStream::pair()?;
            /// let (result, _buf) = a.send("hello").await;
            /// assert_eq!(result?, 5);
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "write")]
            #[doc(alias = "try_write")]
            #[inline(always)]
            #[track_caller]
            pub fn send<B: crate::buf::IoBuf>(&self, buf: B) -> crate::op::AsyncSend<'_, B> {
                crate::op::AsyncSend::new(self, buf)
            }

            /// Receives until the buffer's whole capacity is filled, at once if it has none; for
            /// `n` bytes, pass `buf.slice(..n)`.
            ///
            /// # Errors
            /// `UnexpectedEof` if the stream ends before; otherwise the error of `recv(2)`.
            /// [`Incomplete`](crate::op::Incomplete) has the number of bytes that were received.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, b) = UnixStream::pair()?;
            /// a.send_all("hello, you").await.0?;
            /// let (result, buf) = b.recv_exact([0; 5]).await;
            /// result?;
            /// assert_eq!(&buf, b"hello");
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "read_exact")]
            #[track_caller]
            pub fn recv_exact<B: crate::buf::IoBufMut>(
                &self,
                buf: B,
            ) -> crate::op::AsyncRecvExact<'_, B> {
                crate::op::AsyncRecvExact::new(self, buf)
            }

            /// Sends the whole of `buf`.
            ///
            /// # Errors
            /// The error of `send(2)`, such as `BrokenPipe`.
            /// [`Incomplete`](crate::op::Incomplete) has the number of bytes that were sent.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, _b) = UnixStream::pair()?;
            /// let (result, _buf) = a.send_all(vec![0; 100]).await;
            /// result?;
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "write_all")]
            #[track_caller]
            pub fn send_all<B: crate::buf::IoBuf>(&self, buf: B) -> crate::op::AsyncSendAll<'_, B> {
                crate::op::AsyncSendAll::new(self, buf)
            }

            /// Sends several buffers as one message, to which an address or file descriptors can
            /// be added.
            ///
            /// # Errors
            /// The error of `sendmsg(2)`.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, _b) = UnixStream::pair()?;
            /// let (result, _bufs) = a.send_msg(["a head, ", "a body"]).await;
            /// assert_eq!(result?, 14);
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "write_vectored")]
            #[doc(alias = "sendmsg")]
            #[track_caller]
            pub fn send_msg<B: crate::buf::IoBufs>(
                &self,
                bufs: B,
            ) -> crate::op::AsyncSendmsg<'_, B> {
                crate::op::AsyncSendmsg::new(self, bufs)
            }

            /// Receives into several buffers, with the sender's address, file descriptors and flags
            /// of the message.
            ///
            /// # Errors
            /// The error of `recvmsg(2)`; `InvalidInput` if the buffers have no room.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, b) = UnixStream::pair()?;
            /// a.send_all("headbody").await.0?;
            /// let (result, [head, body]) = b.recv_msg([[0; 4], [0; 4]]).await;
            /// assert_eq!(result?.len, 8);
            /// assert_eq!((&head, &body), (b"head", b"body"));
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "read_vectored")]
            #[doc(alias = "recvmsg")]
            #[track_caller]
            pub fn recv_msg<B: crate::buf::IoBufsMut>(
                &self,
                bufs: B,
            ) -> crate::op::AsyncRecvmsg<'_, B> {
                crate::op::AsyncRecvmsg::new(self, bufs)
            }

            /// Sends `len` bytes of `file`, from the offset `offset` in bytes, without a copy
            /// through user space.
            ///
            /// # Errors
            /// See [`AsyncSendfile`](crate::op::AsyncSendfile).
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, b) = UnixStream::pair()?;
            /// let file = corio::fs::File::open("Cargo.toml").await?;
            /// a.send_file(&file, 1, 7).await?;
            /// let (result, word) = b.recv_exact([0; 7]).await;
            /// result?;
            /// assert_eq!(&word, b"package");
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[doc(alias = "sendfile")]
            #[track_caller]
            pub fn send_file<'a>(
                &'a self,
                file: impl Into<crate::op::Source<'a>>,
                offset: u64,
                len: u64,
            ) -> crate::op::AsyncSendfile<'a> {
                crate::op::AsyncSendfile::new(self, file, offset, len)
            }

            /// Shuts down the sending side, the receiving side, or both.
            ///
            /// # Errors
            /// The error of `shutdown(2)`, such as `NotConnected`.
            ///
            /// # Examples
            /// ```
            /// # use corio::net::UnixStream;
            /// # let mut context = corio::IoContext::new(8)?;
            /// # context.block_on(async {
            /// let (a, b) = UnixStream::pair()?;
            /// a.shutdown(std::net::Shutdown::Write).await?;
            /// assert_eq!(b.recv([0; 1]).await.0?, 0);
            /// # Ok::<(), std::io::Error>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[track_caller]
            pub fn shutdown(&self, how: std::net::Shutdown) -> crate::op::AsyncShutdown<'_> {
                crate::op::AsyncShutdown::new(self, how)
            }
        }
    };
}
pub(crate) use stream_handle;
