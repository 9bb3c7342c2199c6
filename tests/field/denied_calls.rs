//! Sandboxes that deny single system calls: what can be done by others is done by them.

use std::io::ErrorKind::NotFound;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use corio::net::TcpListener;
use corio::{fs, sleep};

use crate::harness::{Case, Outcome, seccomp};

every_driver! { cases: a_denied_call_that_has_a_substitute_fails_nothing }

/// The calls that a kernel of this decade may lack, and that only make things faster or simpler.
const CALLS: [(&str, libc::c_long); 8] = [
    ("preadv2", libc::SYS_preadv2),
    ("statx", libc::SYS_statx),
    ("openat2", libc::SYS_openat2),
    ("accept4", libc::SYS_accept4),
    ("epoll_pwait2", libc::SYS_epoll_pwait2),
    ("cachestat", 451),
    ("renameat2", libc::SYS_renameat2),
    ("sendfile", libc::SYS_sendfile),
];

const LEN: usize = 300_000;

fn a_denied_call_that_has_a_substitute_fails_nothing(case: Case) -> Outcome {
    if !seccomp::is_here() {
        return Ok(());
    }
    case.alone(|| {
        let dir = tempfile::tempdir()?;
        for (name, call) in CALLS {
            for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
                let dir = dir.path().to_owned();
                // A filter lasts as long as its thread, and holds for threads that this one starts.
                let thread = std::thread::spawn(move || {
                    let mut context = case.context();
                    seccomp::forbid(call as u32..=call as u32, errno).expect("a filter");
                    let done = context.block_on(everything_works(&dir));
                    done.unwrap_or_else(|error| panic!("{name} answers {errno}: {error}"));
                });
                thread.join().expect("no panic");
            }
        }
        Ok(())
    })
}

async fn everything_works(dir: &Path) -> Outcome {
    let (path, renamed) = (dir.join("file"), dir.join("renamed"));
    let contents: Vec<u8> = (0..LEN).map(|byte| byte as u8).collect();
    let file = fs::File::create(&path).await?;
    file.write_all_at(contents.clone(), 0).await.0?;
    file.close().await?;
    // Not asked of std, which takes the outcome of its first call for that of all.
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::options().write(true).open(&path)?.set_modified(modified)?;

    let file = fs::File::open(&path).await?;
    let (read, bytes) = file.read_at(Vec::with_capacity(2000), 1000).await;
    assert_eq!((read?, &bytes[..]), (2000, &contents[1000..3000]));
    let (read, bytes) = file.read_exact_at(Vec::with_capacity(LEN), 0).await;
    read?;
    assert!(bytes == contents, "other contents");

    for found in [fs::metadata(&path).await?, file.metadata().await?] {
        assert_eq!(found.len(), LEN as u64);
        assert!(found.is_file());
        assert_eq!(found.modified()?, modified);
    }
    assert!(fs::metadata(dir).await?.is_dir());
    let absent = fs::metadata(dir.join("absent")).await.map(|found| found.len());
    assert_eq!(absent.map_err(|error| error.kind()), Err(NotFound));

    fs::rename(&path, &renamed).await?;
    assert_eq!(std::fs::read_link(&path).map_err(|error| error.kind()), Err(NotFound));
    std::fs::File::open(&renamed)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (stream, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        client.read_to_end(&mut received).map(|_| received)
    });
    stream.send_file(&file, 0, LEN as u64).await?;
    drop(stream);
    assert!(reader.join().expect("no panic")? == contents, "a wrong body");

    // Not a whole number of milliseconds.
    sleep(Duration::from_micros(1500)).await;
    Ok(())
}
