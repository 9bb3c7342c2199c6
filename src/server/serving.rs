//! The future of a connection's task.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::accept::Load;
use super::worker_server::OpenConnection;

pin_project! {
    /// Calls a connection's handler at the first poll, and runs it to its end.
    ///
    /// Not an `async` block: that would have room for what it captures twice, and a server has one
    /// of these for each idle connection.
    pub(super) struct Serving<S, B, F, E> {
        #[pin]
        stage: Stage<B, F>,
        _load: Option<Load>,
        // Of a function's own type, which takes no room.
        end: E,
        // Dropped last: it forgets the task and counts its end.
        open: OpenConnection<S>,
    }
}

pin_project! {
    #[project = StageView]
    enum Stage<B, F> {
        Begin { begin: Option<B> },
        Run { #[pin] handler: F },
        Over,
    }
}

impl<S, B, F, E> Serving<S, B, F, E>
where
    B: FnOnce() -> F,
    F: Future,
    E: Fn(&OpenConnection<S>, F::Output),
{
    /// Creates the future of the connection `open`: `begin` calls the handler, `end` is given its
    /// output.
    pub(super) fn new(open: OpenConnection<S>, load: Option<Load>, begin: B, end: E) -> Self {
        Serving { stage: Stage::Begin { begin: Some(begin) }, _load: load, end, open }
    }
}

impl<S, B, F, E> Future for Serving<S, B, F, E>
where
    B: FnOnce() -> F,
    F: Future,
    E: Fn(&OpenConnection<S>, F::Output),
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                StageView::Begin { begin } => {
                    // A panic of the handler's function leaves nothing to be polled.
                    let Some(begin) = begin.take() else { return Poll::Pending };
                    let handler = begin();
                    this.stage.set(Stage::Run { handler });
                }
                StageView::Run { handler } => {
                    let Poll::Ready(output) = handler.poll(cx) else { return Poll::Pending };
                    // The connection is closed before its end is noted.
                    this.stage.set(Stage::Over);
                    (this.end)(this.open, output);
                    return Poll::Ready(());
                }
                StageView::Over => return Poll::Ready(()),
            }
        }
    }
}
