//! The tasks in which calls are answered, each of which can be cut: HTTP/2 looks at an answer no more while its caller
//! takes nothing of it.

use std::future::Future;
use std::sync::Arc;

use hyper::rt::Executor;
use tokio::sync::Notify;

tokio::task_local! {
    static CUT: Arc<Notify>;
}

/// Gives each call a task of its own.
#[derive(Clone, Copy)]
pub struct Tasks;

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answering: F) {
        let cut = Arc::new(Notify::new());
        tokio::spawn(CUT.scope(cut.clone(), async move {
            tokio::select! {
                biased;
                () = answering => {}
                () = cut.notified() => {}
            }
        }));
    }
}

/// What ends the task that asks, with the answer that it sends: the stream is reset.
pub fn cut() -> Option<Arc<Notify>> {
    CUT.try_with(Arc::clone).ok()
}
