//! Calls to a service of the mesh over one connection, which is made when the first call wants it, and again when it is
//! gone. Calls that come meanwhile wait for it together, and fail together where it cannot be had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::client::{Failed, Remote, Terms};

/// As much as any service of the mesh answers. A process that hangs is left after three seconds, as by grpcio's channels.
const TERMS: Terms = Terms { answer_bytes: 16 << 20, keepalive: Duration::from_secs(1), while_idle: false };
/// Connections that are ended before they take a call.
const TRIES: usize = 3;

#[derive(Clone)]
enum Link {
    Missing,
    Coming,
    There(Remote),
    Failed(Arc<str>),
    Closed,
}

/// The way to one address.
pub struct Channel {
    address: String,
    tls: Arc<ClientConfig>,
    runtime: Handle,
    link: watch::Sender<Link>,
}

impl Channel {
    /// Nothing is connected yet.
    pub fn new(address: String, tls: Arc<ClientConfig>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { address, tls, runtime, link: watch::Sender::new(Link::Missing) })
    }

    /// Calls the method at a path with metadata and a message, framed. Answers the message that comes back, or why none
    /// did before the deadline.
    pub async fn call(
        self: &Arc<Self>,
        path: &str,
        metadata: HeaderMap,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failed> {
        let mut links = self.link.subscribe();
        let answered = async {
            let connected = tokio::time::timeout_at(deadline.into(), self.remote()).await;
            let remote = connected.unwrap_or_else(|_| Err(Failed::overdue()))?;
            remote.call(path, metadata, message, deadline).await
        };
        tokio::select! {
            answered = answered => answered,
            _ = links.wait_for(|link| matches!(link, Link::Closed)) => Err(Failed::cancelled()),
        }
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        matches!(*self.link.borrow(), Link::Closed)
    }

    /// Ends the connection, and calls that are on it.
    pub fn close(&self) {
        self.link.send_replace(Link::Closed);
    }

    async fn remote(self: &Arc<Self>) -> Result<Remote, Failed> {
        for _ in 0..TRIES {
            let mut links = self.link.subscribe();
            self.connect();
            let link = links.wait_for(|link| !matches!(link, Link::Coming)).await.map(|link| link.clone());
            match link {
                Ok(Link::There(mut remote)) => {
                    if remote.is_ready().await {
                        return Ok(remote);
                    }
                }
                Ok(Link::Failed(why)) => return Err(Failed::unavailable(why)),
                _ => return Err(Failed::cancelled()),
            }
        }
        Err(Failed::unavailable("its connections end at once"))
    }

    /// Begins to connect, unless it is connected or does so already.
    fn connect(self: &Arc<Self>) {
        let begins = self.link.send_if_modified(|link| {
            let is_wanted = match link {
                Link::Missing | Link::Failed(_) => true,
                Link::There(remote) => remote.is_closed(),
                Link::Coming | Link::Closed => false,
            };
            if is_wanted {
                *link = Link::Coming;
            }
            is_wanted
        });
        if !begins {
            return;
        }
        // Nothing but its calls holds a channel: with the last of them its connection ends.
        let (channel, address, tls) = (Arc::downgrade(self), self.address.clone(), self.tls.clone());
        self.runtime.spawn(async move {
            let connected = Remote::connect(&address, tls, TERMS).await;
            let (link, running) = match connected {
                Ok((remote, running)) => (Link::There(remote), Some(running)),
                Err(error) => (Link::Failed(error.to_string().into()), None),
            };
            if let Some(channel) = channel.upgrade() {
                channel.has_come(link);
            }
            if let Some(running) = running {
                running.await;
            }
        });
    }

    fn has_come(&self, now: Link) {
        self.link.send_if_modified(|link| {
            let is_awaited = matches!(link, Link::Coming);
            if is_awaited {
                *link = now;
            }
            is_awaited
        });
    }
}
