//! Paths: targets lead to files of the root directory, and to none outside of it.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev, mknodat, openat2};

use super::site::{Site, executable};
use crate::harness::noise;

#[test]
fn names_are_decoded() {
    let site = Site::new(&[]);
    site.file("a b/ü?#%.txt", "odd");
    site.file("plain", "plain");
    let mut client = site.connect();
    for target in [
        "/a%20b/%C3%BC%3F%23%25.txt",
        "/a%20b%2f%c3%bc%3f%23%25.txt?query",
        "//a%20b//%C3%BC%3F%23%25.txt",
        "/./a%20b/.//%C3%BC%3F%23%25.txt",
        "/x/../a%20b/y/z/../../%C3%BC%3F%23%25.txt",
        "/%61%20b/%2e/%C3%BC%3F%23%25.txt",
    ] {
        assert_eq!(client.get(target).expect(200).text(), "odd", "{target}");
    }
    for target in ["/pl%", "/pl%4", "/pl%4g", "/pl%00ain", "/plain%00", "/%", "/plain#fragment"] {
        client.get(target).expect(400);
    }
    client.get("/plain/").expect(404);
    client.get("/plain/x").expect(404);
    client.get("/plain/..").expect(200);
    client.get("/Plain").expect(404);
    client.get(&format!("/{}", "x".repeat(300))).expect(404);
}

#[test]
fn nothing_leads_out_of_the_root() {
    for options in [&[][..], &["--no-symlinks"]] {
        let site = Site::new(options);
        site.file("d/inside", "inside");
        site.link("out", "../secret");
        site.link("out_absolute", "/etc/passwd");
        site.link("out_dir", "..");
        site.link("d/out_by_two", "../out");
        site.link("magic", "/proc/self/cwd");
        site.link("loop", "loop");
        let mut client = site.connect();
        for target in [
            "/../secret",
            "/d/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/.%2e/secret",
            "/d/..%2f..%2fsecret",
            "/..",
            "/d/../..",
            "/../www/d/inside",
        ] {
            client.get(target).expect(400);
        }
        for target in ["/..%5csecret", "/...", "/.../secret", "/%252e%252e/secret", "/..;/secret"] {
            client.get(target).expect(404);
        }
        for target in [
            "/out",
            "/out_absolute",
            "/out_dir",
            "/out_dir/",
            "/out_dir/secret",
            "/d/out_by_two",
            "/magic/",
            "/loop",
        ] {
            let response = client.get(target);
            assert!(matches!(response.status, 403 | 404), "{target}: {}", response.head);
            assert!(!response.text().contains("secret"), "{target}");
        }
        let page = client.get("/").expect(200);
        assert!(!page.text().contains("out") && page.text().contains("href=\"d/\""));
        client.get("/d/inside").expect(200);
    }
}

#[test]
fn links_that_stay_inside_are_followed_unless_unwanted() {
    for (options, status) in [(&[][..], 200), (&["--no-symlinks"][..], 403)] {
        let site = Site::new(options);
        site.file("d/inside", "inside");
        site.link("to_file", "d/inside");
        site.link("d/up_and_down", "../d/inside");
        site.link("twice", "to_file");
        site.link("absolute", site.path("d").join("inside").canonicalize().unwrap());
        let mut client = site.connect();
        for target in ["/to_file", "/d/up_and_down", "/twice", "/absolute"] {
            let response = client.get(target).expect(status);
            assert!(status != 200 || response.text() == "inside", "{target}");
        }
        site.link("to_dir", "d");
        site.link("to_root", ".");
        let status = if status == 200 { 200 } else { 404 };
        client.get("/to_dir/inside").expect(status);
        client.get("/to_root/d/inside").expect(status);
        client.get("/d/inside").expect(200);
        let listed = client.get("/").expect(200).text().contains("to_file");
        assert_eq!(listed, status == 200);
    }
}

#[test]
fn directories_show_their_index_or_a_listing() {
    let site = Site::new(&[]);
    site.file("with/index.html", "<p>index");
    site.file("without/f", "x");
    fs::create_dir_all(site.path("strange/index.html")).unwrap();
    let mut client = site.connect();
    let response = client.get("/with/").expect(200);
    assert_eq!(response.text(), "<p>index");
    assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
    for (target, location) in [
        ("/with", "/with/"),
        ("/with?a=b", "/with/?a=b"),
        ("//with", "/with/"),
        ("/./without/../with", "/with/"),
    ] {
        let response = client.get(target).expect(301);
        assert_eq!(response.field("location"), Some(location));
    }
    let response = client.get("/without/").expect(200);
    assert!(response.text().contains("<a href=\"f\">f</a>"));
    client.get("/strange/").expect(403);
    site.link("linked_index", "with");
    assert_eq!(client.get("/linked_index/").expect(200).text(), "<p>index");
}

/// Returns the targets of all links in a page.
fn links(page: &str) -> Vec<&str> {
    let after = page.split("href=\"").skip(1);
    after.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_listing_can_be_clicked_through() {
    let site = Site::new(&[]);
    let odd = ["a&b <i>\"'.txt", "100%.txt", "ü ? #", "a:b", "-", "x\ny", "%2e%2e"];
    for name in odd {
        site.file(&format!("zdir & co/{name}"), name);
    }
    site.file("zdir & co/Sub/f", "x");
    site.file("zdir & co/large", noise(1_500_000));
    site.file("afile", "x");
    let mut client = site.connect();

    let top = client.get("/").expect(200);
    assert_eq!(links(top.text()), ["/", "zdir%20%26%20co/", "afile"]);
    let target = format!("/{}", links(top.text())[1]);
    let page = client.get(&target).expect(200);
    let text = page.text();
    assert!(text.contains("a&amp;b &lt;i&gt;&quot;&#39;.txt") && !text.contains("<i>"));
    assert!(text.contains("1.4 MiB") && text.contains(">/zdir &amp; co<"));

    let listed = links(text);
    assert_eq!(listed[..4], ["/", "/zdir%20%26%20co/", "../", "Sub/"]);
    let mut names: Vec<_> = odd.iter().copied().chain(["large"]).collect();
    names.sort_unstable();
    for (link, name) in listed[4..].iter().zip(&names) {
        let body = client.get(&format!("{target}{link}")).expect(200).body;
        assert!(*name == "large" || body == name.as_bytes(), "{link}");
    }
    assert_eq!(listed.len(), 4 + names.len());
    client.get(listed[1]).expect(200);
    client.get(&format!("{target}Sub/")).expect(200);
    client.get(&format!("{target}../")).expect(200);

    // The date is that of the system's own tool.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(951_827_696);
    fs::File::options().write(true).open(site.path("afile")).unwrap().set_modified(old).unwrap();
    assert!(client.get("/").text().contains("2000-02-29 12:34"));
}

/// Makes a file that is no regular one.
fn make_node(site: &Site, name: &str, file_type: FileType, dev: u64) -> io::Result<PathBuf> {
    let path = site.path(name);
    Ok(mknodat(CWD, &path, file_type, 0o666.into(), dev).map(|()| path)?)
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let site = Site::new(&[]);
    let mut paths = vec![make_node(&site, "pipe", FileType::Fifo, 0).unwrap()];
    fs::create_dir(site.path("dir")).unwrap();
    paths.push(make_node(&site, "dir/index.html", FileType::Fifo, 0).unwrap());
    site.link("link", "pipe");
    match make_node(&site, "null", FileType::CharacterDevice, makedev(1, 3)) {
        Ok(path) => paths.push(path),
        Err(error) => println!("left out: no device can be made: {error}"),
    }
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    for path in &paths {
        inotify::add_watch(&opened, path, WatchFlags::OPEN).unwrap();
    }
    let has_opened = || {
        let mut room = [MaybeUninit::uninit(); 512];
        inotify::Reader::new(&opened, &mut room).next().is_ok()
    };
    let mut client = site.connect();
    for target in ["/pipe", "/dir/", "/dir/index.html", "/link", "/null", "/socket"] {
        let status = client.get(target).status;
        assert!(status == 403 || (target == "/null" && status == 404), "{target}: {status}");
        assert_eq!(client.head(target, "").status, status, "{target}");
    }
    client.get("/").expect(200);
    assert!(!has_opened());
    drop(fs::File::options().read(true).write(true).open(site.path("pipe")).unwrap());
    assert!(has_opened(), "it would have been seen");
}

#[test]
fn files_and_directories_are_served_where_proc_is_missing() {
    let without_proc = |run: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]).arg(format!("mount -t tmpfs none /proc && {run}"));
        command
    };
    if !without_proc("true").output().is_ok_and(|output| output.status.success()) {
        return println!("left out: /proc cannot be hidden (only root can)");
    }
    let mut command = without_proc("exec \"$0\" \"$@\"");
    command.arg(executable());
    let site = Site::by(command, &[]);
    site.file("f", "hello");
    site.file("dir/inside", "inside");
    site.link("link", "dir/inside");
    make_node(&site, "pipe", FileType::Fifo, 0).unwrap();
    let mut client = site.connect();
    assert_eq!(client.get("/f").expect(200).text(), "hello");
    assert_eq!(client.get("/link").expect(200).text(), "inside");
    assert!(client.get("/dir/").expect(200).text().contains("<a href=\"inside\">inside</a>"));
    assert!(client.get("/").expect(200).text().contains("<a href=\"link\">link</a>"));
    client.get("/pipe").expect(403);
}

#[test]
fn a_path_that_is_not_in_memory_is_looked_up_on_another_thread() {
    // Of a new thread's directory in /proc, no name has been looked up.
    let (out, thread) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = out.send(fs::read_link("/proc/thread-self").unwrap());
        let _ = ended.recv();
    });
    let thread = PathBuf::from("/proc").join(thread.recv().unwrap());
    for options in [&[][..], &["--no-symlinks"]] {
        let site = Site::with(Command::new(executable()), options, |dir| {
            fs::remove_dir(dir.join("www")).unwrap();
            std::os::unix::fs::symlink(&thread, dir.join("www")).unwrap();
        });
        let name = if options.is_empty() { "/limits" } else { "/oom_score_adj" };
        let mut client = site.connect();
        assert_eq!(site.threads("spawn_blocking"), 0);
        client.get(name).expect(200);
        assert_eq!(site.threads("spawn_blocking"), 1, "{options:?}");
    }
    drop(end);
}

#[test]
fn a_path_that_is_in_memory_is_looked_up_at_once() {
    let cached = ResolveFlags::CACHED;
    if openat2(CWD, ".", OFlags::PATH, Mode::empty(), cached).is_err() {
        return println!("left out: this kernel does not know what it has in memory");
    }
    for options in [&[][..], &["--no-symlinks"]] {
        let site = Site::new(options);
        site.file("dir/index.html", "hello");
        let mut client = site.connect();
        client.get("/dir/index.html").expect(200);
        client.get("/dir/").expect(200);
        client.get("/dir").expect(301);
        assert_eq!(site.threads("spawn_blocking"), 0, "{options:?}");
    }
}

#[test]
fn what_cannot_be_read_is_forbidden() {
    let programs = tempfile::tempdir().unwrap();
    let Some(command) = super::site::as_nobody(programs.path()) else { return };
    let site = Site::with(command, &[], |dir| {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode;
        fs::set_permissions(dir, mode(0o755)).unwrap();
        fs::write(dir.join("www/unreadable"), "x").unwrap();
        fs::set_permissions(dir.join("www/unreadable"), mode(0)).unwrap();
        fs::create_dir(dir.join("www/closed")).unwrap();
        fs::set_permissions(dir.join("www/closed"), mode(0)).unwrap();
    });
    let mut client = site.connect();
    client.get("/unreadable").expect(403);
    client.get("/closed/").expect(403);
    client.get("/closed/x").expect(403);
    assert!(client.get("/").expect(200).text().contains("unreadable"));
}
