//! TLS over connections, between corio and corio, on every driver.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use corio::net::{TcpStream, TlsStream};
use corio::server::{Server, Workers};
use corio::{Builder, timeout};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::harness::noise;

/// A certificate for `localhost` that signs itself, and its key; good for tests only.
const CERTIFICATE: &[u8] = include_bytes!("../data/localhost.pem");
const KEY: &[u8] = include_bytes!("../data/localhost.key");

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

fn server_config() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"echo".to_vec()];
    Arc::new(config)
}

fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"echo".to_vec()];
    Arc::new(config)
}

fn name(name: &'static str) -> ServerName<'static> {
    name.try_into().unwrap()
}

fn echo_server(builder: &Builder) -> Server {
    let config = server_config();
    Server::builder()
        .listen("127.0.0.1:0")
        .workers(Workers::builder().count(2).context(builder.clone()))
        .start(
            move |_| config.clone(),
            |stream, ctx| async move {
                let mut stream = TlsStream::accept(stream, ctx.state().clone()).await?;
                let mut buf = Vec::with_capacity(10_000);
                loop {
                    let (result, received) = stream.recv(buf).await;
                    if result? == 0 {
                        return stream.shutdown().await;
                    }
                    let (result, sent) = stream.send_all(received).await;
                    result?;
                    buf = sent;
                }
            },
        )
        .unwrap()
}

async fn connect(server: &Server) -> io::Result<TlsStream> {
    let stream = TcpStream::connect(&server.addresses()[0]).await?;
    TlsStream::connect(stream, client_config(), name("localhost")).await
}

fn on_a_context<F: Future>(builder: &Builder, body: F) -> F::Output {
    let mut context = builder.build().unwrap();
    context.block_on(timeout(LONG, body)).expect("it does not hang")
}

every_driver! {
    fn every_byte_comes_back(builder) {
        let server = echo_server(&builder);
        on_a_context(&builder, async {
            for len in [0, 1, 16_384, 16_385, 100_000, 1 << 20] {
                let mut stream = connect(&server).await.unwrap();
                assert_eq!(stream.connection().alpn_protocol(), Some(&b"echo"[..]));
                let sent = noise(len);
                let mut back = Vec::new();
                // In parts, as neither side reads while it writes.
                for part in sent.chunks(8000) {
                    stream.send_all(part.to_vec()).await.0.unwrap();
                    let target = back.len() + part.len();
                    while back.len() < target {
                        let (result, buf) = stream.recv(Vec::with_capacity(3000)).await;
                        assert_ne!(result.unwrap(), 0);
                        back.extend_from_slice(&buf);
                    }
                }
                assert!(back == sent, "{len} bytes");
                stream.shutdown().await.unwrap();
                let (result, _) = stream.recv(vec![0; 10]).await;
                assert_eq!(result.unwrap(), 0, "the other side has said goodbye");
            }
        });
        server.stop();
        assert_eq!(server.join().finished, 6);
    }

    fn a_wrong_name_is_refused(builder) {
        let server = echo_server(&builder);
        on_a_context(&builder, async {
            let stream = TcpStream::connect(&server.addresses()[0]).await.unwrap();
            let refused = TlsStream::connect(stream, client_config(), name("example.org")).await;
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("certificate"), "{error}");
            // And a certificate that no root certificate has signed.
            let stream = TcpStream::connect(&server.addresses()[0]).await.unwrap();
            let nobody = ClientConfig::builder()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            let refused = TlsStream::connect(stream, Arc::new(nobody), name("localhost")).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidData);
        });
        server.stop();
        assert_eq!(server.join().failed, 2);
    }

    fn what_is_not_tls_is_refused(builder) {
        let server = echo_server(&builder);
        on_a_context(&builder, async {
            let stream = TcpStream::connect(&server.addresses()[0]).await.unwrap();
            stream.send_all("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.0.unwrap();
            let (result, alert) = stream.recv(Vec::with_capacity(100)).await;
            // An alert: record type 21.
            assert!(matches!(result, Ok(7)) && alert[0] == 21, "{result:?} {alert:?}");
            // A client that closes in the middle of its hello.
            let stream = TcpStream::connect(&server.addresses()[0]).await.unwrap();
            stream.send_all([22, 3, 1, 0, 100, 1]).await.0.unwrap();
            stream.close().await.unwrap();
        });
        server.stop();
        assert_eq!(server.join().failed, 2);
    }

    fn an_end_without_close_notify_is_an_error(builder) {
        on_a_context(&builder, async {
            let listener = corio::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let serving = corio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = TlsStream::accept(stream, server_config()).await.unwrap();
                stream.send_all("half a").await.0.unwrap();
                stream.stream().shutdown(std::net::Shutdown::Write).await.unwrap();
                let _ = stream.recv(vec![0; 1]).await;
            });
            let stream = TcpStream::connect(address).await.unwrap();
            let mut stream =
                TlsStream::connect(stream, client_config(), name("localhost")).await.unwrap();
            let (result, buf) = stream.recv(Vec::with_capacity(100)).await;
            assert_eq!((result.unwrap(), &buf[..]), (6, &b"half a"[..]));
            let (result, _) = stream.recv(buf).await;
            assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            drop(stream);
            serving.await.unwrap();
        });
    }

    fn a_cancelled_recv_loses_nothing(builder) {
        let server = echo_server(&builder);
        on_a_context(&builder, async {
            let mut stream = connect(&server).await.unwrap();
            for round in 0..20_u32 {
                let short = timeout(Duration::from_micros(round.into()), stream.recv(vec![0; 10]));
                match short.await {
                    Err(_) => {}
                    Ok((result, _)) => assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut),
                }
                stream.send_all(round.to_le_bytes().to_vec()).await.0.unwrap();
                let (result, buf) = stream.recv(vec![0; 10]).await;
                assert_eq!((result.unwrap(), &buf[..4]), (4, &round.to_le_bytes()[..]));
            }
        });
    }
}
