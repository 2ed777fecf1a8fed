//! A connection to one address, which is made anew, for new calls, when its PEM files were replaced.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::Error;
use crate::credentials::read;

const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What a generated client takes: a connection that adds trace, session token and deadline to each call.
pub type Channel = InterceptedService<tonic::transport::Channel, Headers>;

/// What is added to a call.
#[derive(Clone)]
pub struct Headers {
    pub(crate) traceparent: String,
    pub(crate) token: Option<String>,
    /// None for a stream, which lasts.
    pub(crate) timeout: Option<Duration>,
}

impl tonic::service::Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let malformed = |_| Status::invalid_argument("a header of the call is malformed");
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", MetadataValue::try_from(&self.traceparent).map_err(malformed)?);
        if let Some(token) = &self.token {
            let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(malformed)?;
            value.set_sensitive(true);
            metadata.insert("authorization", value);
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

/// PEM files to connect with; without `trust`, the system's certificate authorities are trusted.
#[derive(Clone, Default)]
pub(crate) struct Pem {
    pub(crate) trust: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Pem {
    /// What differs once a file was replaced; nothing while a replacement is half done.
    fn stamps(&self) -> Option<Vec<(SystemTime, u64)>> {
        self.files().map(stamp).collect()
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate.as_path(), key.as_path()]);
        self.trust.iter().map(PathBuf::as_path).chain(identity)
    }

    fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut config = match &self.trust {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates(file)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(config)
    }
}

/// What a file of certificates holds; of one that holds none, nobody would be trusted.
fn certificates(file: &Path) -> Result<Vec<u8>, Error> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let held = read(file)?;
    if held.windows(END.len()).any(|part| part == END) {
        return Ok(held);
    }
    let message = format!("{} holds no certificate in PEM", file.display());
    Err(Error::new("CREDENTIALS_UNREADABLE", message, Code::FailedPrecondition, ""))
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    #[cfg(unix)]
    let id = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let id = metadata.len();
    Some((metadata.modified().ok()?, id))
}

pub(crate) struct Connection {
    address: String,
    pem: Pem,
    made: Mutex<Option<Made>>,
}

struct Made {
    channel: tonic::transport::Channel,
    stamps: Option<Vec<(SystemTime, u64)>>,
    checked: Instant,
}

impl Connection {
    pub(crate) fn new(address: &str, pem: Pem) -> Self {
        Self { address: address.to_owned(), pem, made: Mutex::new(None) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The channel for a call that begins now. Fails with `CREDENTIALS_UNREADABLE`.
    pub(crate) fn current(&self) -> Result<tonic::transport::Channel, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_mut() {
            if made.checked.elapsed() < CHECK_EVERY {
                return Ok(made.channel.clone());
            }
            made.checked = Instant::now();
            let found = self.pem.stamps();
            if found.is_none() || found == made.stamps {
                return Ok(made.channel.clone());
            }
        }
        let stamps = self.pem.stamps();
        let channel = match (self.connected(), made.as_ref()) {
            (Ok(channel), _) => channel,
            // A replacement may be half done, one file of it or a part of one: until it is whole, the connection that
            // stands is used, and each check tries again.
            (Err(_), Some(made)) => return Ok(made.channel.clone()),
            (Err(error), None) => return Err(error),
        };
        *made = Some(Made { channel: channel.clone(), stamps, checked: Instant::now() });
        Ok(channel)
    }

    fn connected(&self) -> Result<tonic::transport::Channel, Error> {
        let refused = |error: tonic::transport::Error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let message =
                format!("{}: no connection can be made with these files or this address: {cause}", self.address);
            Error::new("CREDENTIALS_UNREADABLE", message, Code::FailedPrecondition, "")
        };
        Ok(Endpoint::from_shared(format!("https://{}", self.address))
            .map_err(refused)?
            .tls_config(self.pem.tls()?)
            .map_err(refused)?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .connect_lazy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBdTCCARugAwIBAgIUU7o58KNWZaYPV+Mqy2+i2R8ti74wCgYIKoZIzj0EAwIw\n\
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjkwOTIzMDBaGA8yMTI2MTEwNTA5MjMw\n\
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHEj\n\
RUi8MaDwtveBqYZraSCtX0mARXRxfpbOy1X8fizfnuxlJgIvBNTEzdzr6XkLfxvd\n\
7t7l0Uj7lqEtuWdTrdKjUzBRMB0GA1UdDgQWBBS8wc0Xgsy5vouPIQfKAodZqKq8\n\
TzAfBgNVHSMEGDAWgBS8wc0Xgsy5vouPIQfKAodZqKq8TzAPBgNVHRMBAf8EBTAD\n\
AQH/MAoGCCqGSM49BAMCA0gAMEUCIGvp/vZW0Uyl96xA67SOHxTnTzwV93fD2o2I\n\
831cHZXzAiEAv+OEKtaNuiAf8bBniDewMGFGZ17tzjsTr7IYAcdm6vY=\n\
-----END CERTIFICATE-----\n";

    /// Whether the connection that stood is used on, once the file was replaced.
    fn is_kept(connection: &Connection, file: &Path, text: &str) -> bool {
        let beside = file.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, file).unwrap();
        let before = {
            let mut made = connection.made.lock().unwrap();
            let made = made.as_mut().unwrap();
            made.checked -= CHECK_EVERY;
            made.stamps.clone()
        };
        connection.current().unwrap();
        connection.made.lock().unwrap().as_ref().unwrap().stamps == before
    }

    #[tokio::test]
    async fn a_replacement_that_is_half_done_stops_no_call_and_a_whole_one_is_used() {
        let trust = std::env::temp_dir().join(format!("strongroom-trust-{}.pem", std::process::id()));
        std::fs::write(&trust, CERTIFICATE).unwrap();
        let connection = Connection::new("127.0.0.1:1", Pem { trust: Some(trust.clone()), identity: None });
        connection.current().unwrap();
        assert!(is_kept(&connection, &trust, &CERTIFICATE[..200]));
        assert!(is_kept(&connection, &trust, "not a certificate"));
        assert!(!is_kept(&connection, &trust, CERTIFICATE));
        std::fs::remove_file(&trust).unwrap();
    }
}
