//! Sockets, with std's names.
//!
//! Reading and writing take `&self`, so one task can receive while another sends. A handle is
//! `Send` while nothing is in flight on it: an accepted connection can move to another thread's
//! context. Dropping a handle closes its socket, without waiting.
//!
//! Sockets in handles are in non-blocking mode (`O_NONBLOCK`), as a handle's fd shows when it is
//! given away. Operations wait all the same.

mod names;
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
pub use names::resolve;
pub use relay::relay;
pub use socket::Socket;
pub use stream::Stream;
pub use tcp::{TcpListener, TcpStream};
#[cfg(feature = "rustls")]
pub use tls::TlsStream;
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix::{UnixListener, UnixStream};

/// Connections that may wait to be accepted; the kernel has its own limit, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What every socket handle has: the fd, and the ways in and out of it.
macro_rules! socket_handle {
    ($name:ident, $address:ty) => {
        impl $name {
            /// Closes the socket, and reports what the kernel has to say about it.
            ///
            /// # Errors
            /// What `close(2)` reports; `ResourceBusy` if an operation on this handle was leaked
            /// (`mem::forget`) while in flight, in which case the fd stays open for ever.
            #[track_caller]
            pub fn close(self) -> crate::op::AsyncClose {
                crate::op::AsyncClose::handle(self.0)
            }

            /// The socket's options. (Leave it in non-blocking mode: in blocking mode a
            /// `send_file` would hold up the thread.)
            pub fn options(&self) -> socket2::SockRef<'_> {
                socket2::SockRef::from(self)
            }

            /// The socket's own address.
            ///
            /// # Errors
            /// What `getsockname(2)` reports.
            pub fn local_addr(&self) -> std::io::Result<$address> {
                let address = self.options().local_addr()?;
                let address = crate::net::SocketAddress::from_sock_addr(address);
                crate::op::PeerAddress::from_socket_address(address)
            }
        }

        impl crate::os::AsFd for $name {
            fn as_fd(&self) -> crate::os::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        #[cfg(unix)]
        impl crate::os::AsRawFd for $name {
            fn as_raw_fd(&self) -> crate::os::RawFd {
                self.0.raw()
            }
        }

        impl From<crate::os::OwnedFd> for $name {
            /// Takes over a socket of this kind, and puts it into non-blocking mode.
            fn from(fd: crate::os::OwnedFd) -> Self {
                $name(crate::op::Descriptor::socket(fd))
            }
        }

        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $name {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.0.as_socket()
            }
        }

        impl TryFrom<$name> for crate::os::OwnedFd {
            type Error = std::io::Error;

            /// Gives the fd away; `ResourceBusy` if an operation was leaked in flight.
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

/// What the handles have that are stream sockets for sure. A [`Socket`] may be of any type: of
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

/// What every connected stream has.
macro_rules! stream_handle {
    ($name:ident, $address:ty) => {
        impl $name {
            /// Receives into `buf`; 0 bytes: the peer has ended its side.
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
            #[inline(always)]
            #[track_caller]
            pub fn recv<B: crate::buf::IoBufMut>(&self, buf: B) -> crate::op::AsyncRecv<'_, B> {
                crate::op::AsyncRecv::new(self, buf)
            }

            /// Sends from `buf`, perhaps only a part of it.
            #[inline(always)]
            #[track_caller]
            pub fn send<B: crate::buf::IoBuf>(&self, buf: B) -> crate::op::AsyncSend<'_, B> {
                crate::op::AsyncSend::new(self, buf)
            }

            /// Receives until the buffer's whole capacity is filled.
            ///
            /// # Errors
            /// `UnexpectedEof` when the stream ends before; see
            /// [`Incomplete`](crate::op::Incomplete) for how far it came.
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
            /// See [`Incomplete`](crate::op::Incomplete) for how far it came.
            #[track_caller]
            pub fn send_all<B: crate::buf::IoBuf>(&self, buf: B) -> crate::op::AsyncSendAll<'_, B> {
                crate::op::AsyncSendAll::new(self, buf)
            }

            /// Sends several buffers, with a message's extras if wanted.
            #[track_caller]
            pub fn send_msg<B: crate::buf::IoBufs>(
                &self,
                bufs: B,
            ) -> crate::op::AsyncSendmsg<'_, B> {
                crate::op::AsyncSendmsg::new(self, bufs)
            }

            /// Receives into several buffers, with what comes along.
            #[track_caller]
            pub fn recv_msg<B: crate::buf::IoBufsMut>(
                &self,
                bufs: B,
            ) -> crate::op::AsyncRecvmsg<'_, B> {
                crate::op::AsyncRecvmsg::new(self, bufs)
            }

            /// Sends `len` bytes of `file`, from `offset`, without a copy through user space.
            ///
            /// # Errors
            /// See [`AsyncSendfile`](crate::op::AsyncSendfile).
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
            #[track_caller]
            pub fn shutdown(&self, how: std::net::Shutdown) -> crate::op::AsyncShutdown<'_> {
                crate::op::AsyncShutdown::new(self, how)
            }

            /// The peer's address.
            ///
            /// # Errors
            /// What `getpeername(2)` reports, such as `NotConnected`.
            pub fn peer_addr(&self) -> std::io::Result<$address> {
                let address = self.options().peer_addr()?;
                let address = crate::net::SocketAddress::from_sock_addr(address);
                crate::op::PeerAddress::from_socket_address(address)
            }
        }
    };
}
pub(crate) use stream_handle;
