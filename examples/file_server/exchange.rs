//! One request and its response.

use std::io;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use corio::fs::File;
use httpdate::HttpDate;

use super::Server;
use super::conditions::{FileTime, Validators, Verdict};
use super::listing;
use super::multipart::Multipart;
use super::output::Output;
use super::paths::{UrlPath, encode};
use super::ranges::{self, Selection};
use super::request::{Method, Request};
use super::response::{Head, Persistence, Status, page};

/// The file served for a directory that contains it.
const INDEX: &[u8] = b"index.html";

/// How many ticks of the clock a response waits for the file to have a tag: under load, ticks may
/// come late.
const TICKS: usize = 3;

const HTML: &str = "text/html; charset=utf-8";

/// A response's status and length, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// Bytes of the body.
    pub(crate) len: u64,
}

impl Answer {
    /// Writes the last answer on a connection.
    pub(crate) fn last(
        server: &Server,
        output: &mut Output<'_>,
        status: Status,
        is_head: bool,
    ) -> Self {
        error(server, output, status, Persistence::Close, is_head, |head| head)
    }
}

/// Writes an error's head and page.
fn error(
    server: &Server,
    output: &mut Output<'_>,
    status: Status,
    after: Persistence,
    is_head: bool,
    more: impl FnOnce(Head<'_>) -> Head<'_>,
) -> Answer {
    let page = page(status);
    let mut head = Head::new(output.buf(), status, &server.clock, after)
        .text("Content-Type", HTML)
        .field("Content-Length", page.len());
    head = match status {
        Status::METHOD_NOT_ALLOWED => head.text("Allow", "GET, HEAD"),
        Status::UNAVAILABLE => head.text("Retry-After", "1"),
        _ => head,
    };
    more(head).end();
    if is_head {
        return Answer { status, len: 0 };
    }
    output.buf().extend_from_slice(page.as_bytes());
    Answer { status, len: page.len() as u64 }
}

/// A file to be sent, and its metadata.
struct Content {
    file: File,
    len: u64,
    mime: &'static str,
    validators: Validators,
}

/// A request being answered.
pub(crate) struct Exchange<'e, 's> {
    pub(crate) server: &'e Server,
    pub(crate) request: &'e Request<'e>,
    pub(crate) output: &'e mut Output<'s>,
    pub(crate) after: Persistence,
}

impl Exchange<'_, '_> {
    /// Answers the request. After an error nothing more can be sent on the connection.
    pub(crate) async fn answer(&mut self, path: &mut UrlPath) -> io::Result<Answer> {
        if path.parse(self.request.target).is_err() {
            return Ok(self.error(Status::BAD_REQUEST));
        }
        match self.find_patiently(path).await {
            Ok(Found::File(content)) => self.file(content).await,
            Ok(Found::Listing(page)) => self.listing(page).await,
            Ok(Found::Elsewhere) => Ok(self.redirect(path)),
            Err(error) => Ok(self.error(status_of(&error))),
        }
    }

    /// Finds the file. If no fd is left for it, waits until some of those that are about to be
    /// closed are free, for about a second at most.
    async fn find_patiently(&self, path: &mut UrlPath) -> io::Result<Found> {
        let mut pause = Duration::from_millis(1);
        loop {
            let slash = path.ends_with_slash();
            match self.find(path).await {
                Err(error) if is_short_of_fds(&error) && pause < Duration::from_secs(1) => {
                    if slash && !path.ends_with_slash() {
                        // The index has been tried.
                        path.leave();
                    }
                    corio::sleep(pause).await;
                    pause *= 2;
                }
                found => return found,
            }
        }
    }

    async fn find(&self, path: &mut UrlPath) -> io::Result<Found> {
        let root = &self.server.root;
        let mut before = FileTime::now();
        let (mut file, mut metadata) = root.open(path).await?;
        if metadata.is_dir() {
            if !path.ends_with_slash() {
                return Ok(Found::Elsewhere);
            }
            let dir = file;
            path.push(INDEX);
            match root.open(path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    path.leave();
                    let (root, path) = (root.clone(), path.clone());
                    let page = corio::spawn_blocking(move || listing::page(&root, path, &dir));
                    return page.await?.map(Found::Listing);
                }
                index => (file, metadata) = index?,
            }
            if !metadata.is_file() {
                // A directory named `index.html`.
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        } else if path.ends_with_slash() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut validators = Validators::of(&metadata, before);
        let mut ticks = 0..TICKS;
        while validators.etag.is_none() && ticks.next().is_some() {
            // It was changed just now. In the next tick it has a tag, unless it goes on changing.
            corio::sleep(FileTime::tick()).await;
            before = FileTime::now();
            metadata = file.metadata()?;
            validators = Validators::of(&metadata, before);
        }
        let (file, mime) = (file.into(), mime(path));
        Ok(Found::File(Content { file, len: metadata.len(), mime, validators }))
    }

    async fn file(&mut self, content: Content) -> io::Result<Answer> {
        match content.validators.check(self.request) {
            Verdict::Send => {}
            Verdict::NotModified => return Ok(self.not_modified(&content)),
            Verdict::Failed => return Ok(self.error(Status::PRECONDITION_FAILED)),
        }
        match self.selection(&content) {
            Selection::Whole => {
                self.head(Status::OK, &content).field("Content-Length", content.len).end();
                self.body(Status::OK, &content, 0..content.len).await
            }
            Selection::Unsatisfiable => {
                let range = format_args!("bytes */{}", content.len);
                let status = Status::RANGE_NOT_SATISFIABLE;
                Ok(self.error_with(status, |head| head.field("Content-Range", range)))
            }
            Selection::Parts(parts) => match &parts[..] {
                [part] => {
                    let range =
                        format_args!("bytes {}-{}/{}", part.start, part.end - 1, content.len);
                    self.head(Status::PARTIAL_CONTENT, &content)
                        .field("Content-Length", part.end - part.start)
                        .field("Content-Range", range)
                        .end();
                    self.body(Status::PARTIAL_CONTENT, &content, part.clone()).await
                }
                parts => self.parts(&content, parts).await,
            },
        }
    }

    /// Which part of the file is requested. Ranges apply to GET only.
    fn selection(&self, content: &Content) -> Selection {
        match self.request.single("range") {
            Some(value)
                if self.request.method == Method::Get
                    && content.validators.range_applies(self.request, SystemTime::now()) =>
            {
                ranges::select(value, content.len)
            }
            _ => Selection::Whole,
        }
    }

    /// Begins the head of a response with the file's validators.
    fn validated(&mut self, status: Status, content: &Content) -> Head<'_> {
        let head = Head::new(self.output.buf(), status, &self.server.clock, self.after)
            .field("Last-Modified", HttpDate::from(content.validators.modified));
        match content.validators.etag {
            Some(etag) => head.field("ETag", etag),
            None => head,
        }
    }

    /// Begins the head of a response that has (a part of) the file as its body. Text is assumed to
    /// be UTF-8, and `nosniff` keeps clients from guessing other types.
    fn head(&mut self, status: Status, content: &Content) -> Head<'_> {
        let charset = if content.mime.starts_with("text/") { "; charset=utf-8" } else { "" };
        self.validated(status, content)
            .field("Content-Type", format_args!("{}{charset}", content.mime))
            .text("X-Content-Type-Options", "nosniff")
            .text("Accept-Ranges", "bytes")
    }

    /// Sends (a part of) the file, unless the method is HEAD.
    async fn body(
        &mut self,
        status: Status,
        content: &Content,
        part: Range<u64>,
    ) -> io::Result<Answer> {
        let len = part.end - part.start;
        if self.request.method == Method::Head {
            return Ok(Answer { status, len: 0 });
        }
        self.output.file(&content.file, part.start, len).await?;
        Ok(Answer { status, len })
    }

    /// Sends several parts in one body.
    async fn parts(&mut self, content: &Content, parts: &[Range<u64>]) -> io::Result<Answer> {
        let status = Status::PARTIAL_CONTENT;
        let multipart = Multipart::new(content.mime, parts, content.len);
        self.validated(status, content)
            .field("Content-Type", multipart.content_type())
            .field("Content-Length", multipart.len())
            .end();
        for (head, part) in multipart.parts() {
            self.output.buf().extend_from_slice(head.as_bytes());
            self.output.file(&content.file, part.start, part.end - part.start).await?;
        }
        self.output.buf().extend_from_slice(multipart.end().as_bytes());
        Ok(Answer { status, len: multipart.len() })
    }

    fn not_modified(&mut self, content: &Content) -> Answer {
        self.validated(Status::NOT_MODIFIED, content).end();
        Answer { status: Status::NOT_MODIFIED, len: 0 }
    }

    async fn listing(&mut self, page: String) -> io::Result<Answer> {
        let (status, len) = (Status::OK, page.len() as u64);
        Head::new(self.output.buf(), status, &self.server.clock, self.after)
            .text("Content-Type", HTML)
            .field("Content-Length", page.len())
            .text("Cache-Control", "no-cache")
            .end();
        if self.request.method == Method::Head {
            return Ok(Answer { status, len: 0 });
        }
        self.output.page(page).await?;
        Ok(Answer { status, len })
    }

    /// Redirects the client to the same directory with a slash at its end, which relative links
    /// need. The decoded path has single slashes only, so this can't lead to another host.
    fn redirect(&mut self, path: &UrlPath) -> Answer {
        let query = self.request.target.find('?').map_or("", |at| &self.request.target[at..]);
        let location = format_args!("/{}/{query}", encode(path.bytes()));
        self.error_with(Status::MOVED_PERMANENTLY, |head| head.field("Location", location))
    }

    fn error(&mut self, status: Status) -> Answer {
        self.error_with(status, |head| head)
    }

    fn error_with(&mut self, status: Status, more: impl FnOnce(Head<'_>) -> Head<'_>) -> Answer {
        let is_head = self.request.method == Method::Head;
        error(self.server, self.output, status, self.after, is_head, more)
    }
}

/// What a path leads to.
enum Found {
    File(Content),
    /// The page that shows a directory.
    Listing(String),
    /// A directory, asked for without a slash at its end.
    Elsewhere,
}

/// The type of a file, by its name.
fn mime(path: &UrlPath) -> &'static str {
    mime_guess::from_path(path.as_path()).first_raw().unwrap_or("application/octet-stream")
}

fn is_short_of_fds(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// The answer to a file that can't be opened.
fn status_of(error: &io::Error) -> Status {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => Status::NOT_FOUND,
        // The last three: it leads out of the root, in circles, or to no file.
        Some(libc::EACCES | libc::EPERM | libc::EXDEV | libc::ELOOP | libc::ENXIO) => {
            Status::FORBIDDEN
        }
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Status::UNAVAILABLE,
        _ => match error.kind() {
            io::ErrorKind::NotADirectory => Status::NOT_FOUND,
            io::ErrorKind::PermissionDenied => Status::FORBIDDEN,
            _ => Status::INTERNAL_ERROR,
        },
    }
}
