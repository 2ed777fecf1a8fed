//! TLS from files that may be replaced while the service runs.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ConfigBuilder, ConfigSide, RootCertStore, ServerConfig, WantsVerifier, WantsVersions};

const ALPN: &[u8] = b"h2";
const SPIFFE: &str = "spiffe://";
const MOST_SPIFFE_BYTES: usize = 2_048;
const MOST_DOMAIN_BYTES: usize = 255;

/// Whether a client shows a certificate. One that is shown is verified in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It is not asked for one.
    None,
    /// It may.
    Optional,
    /// It must.
    Required,
}

/// PEM files: a certificate chain, its key, and whom the other side's certificates chain to.
pub type Paths = [PathBuf; 3];

type Read<C> = Box<dyn Fn(&Paths) -> io::Result<C> + Send + Sync>;

/// What is made of the files, anew whenever one of them has changed.
pub struct Files<C> {
    paths: Paths,
    read: Read<C>,
    current: Mutex<(Stamps, Arc<C>)>,
}

/// Those of a server.
pub type ServerFiles = Arc<Files<ServerConfig>>;

type Stamps = [(i64, i64, u64); 3];

impl Files<ServerConfig> {
    /// Reads the files for one who is connected to.
    pub fn of_server(paths: Paths, client: ClientCertificate) -> io::Result<Self> {
        Self::new(paths, Box::new(move |paths| server(paths, client)))
    }
}

impl Files<ClientConfig> {
    /// Reads the files for one who connects.
    pub fn of_client(paths: Paths) -> io::Result<Self> {
        Self::new(paths, Box::new(client))
    }
}

impl<C> Files<C> {
    fn new(paths: Paths, read: Read<C>) -> io::Result<Self> {
        let current = (stamps(&paths)?, Arc::new(read(&paths)?));
        Ok(Self { paths, read, current: Mutex::new(current) })
    }

    /// What the files hold now. While a replacement is half done, what they held before.
    pub fn current(&self) -> Arc<C> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(stamps) = stamps(&self.paths) {
            if stamps != current.0 {
                if let Ok(read) = (self.read)(&self.paths) {
                    *current = (stamps, Arc::new(read));
                }
            }
        }
        current.1.clone()
    }
}

fn stamps(paths: &Paths) -> io::Result<Stamps> {
    let mut stamps = [(0, 0, 0); 3];
    for (stamp, path) in stamps.iter_mut().zip(paths) {
        let found = path.metadata()?;
        *stamp = (found.mtime(), found.mtime_nsec(), found.ino());
    }
    Ok(stamps)
}

fn server(paths: &Paths, client: ClientCertificate) -> io::Result<ServerConfig> {
    let [certificate, key, trust] = paths;
    let (certificate, key, trust) = (std::fs::read(certificate)?, std::fs::read(key)?, std::fs::read(trust)?);
    let builder = versions(ServerConfig::builder_with_provider(provider()))?;
    let builder = if client == ClientCertificate::None {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&trust)?), provider());
        let verifier = if client == ClientCertificate::Optional { verifier.allow_unauthenticated() } else { verifier };
        builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
    };
    // Refuses a key that is not the certificate's.
    let mut configuration = builder.with_single_cert(chain(&certificate)?, private(&key)?).map_err(io::Error::other)?;
    configuration.alpn_protocols = vec![ALPN.to_vec()];
    // A session that is resumed would bring a certificate along that nobody looks at again, and outlive its end.
    configuration.session_storage = Arc::new(NoServerSessionStorage {});
    configuration.send_tls13_tickets = 0;
    Ok(configuration)
}

fn client(paths: &Paths) -> io::Result<ClientConfig> {
    let [certificate, key, trust] = paths;
    client_of([&std::fs::read(certificate)?, &std::fs::read(key)?, &std::fs::read(trust)?])
}

/// Of a certificate chain, its key, and whom the other side's certificates chain to, all PEM.
pub fn client_of([certificate, key, trust]: [&[u8]; 3]) -> io::Result<ClientConfig> {
    let builder = versions(ClientConfig::builder_with_provider(provider()))?.with_root_certificates(roots(trust)?);
    let built = builder.with_client_auth_cert(chain(certificate)?, private(key)?);
    let mut configuration = built.map_err(io::Error::other)?;
    configuration.alpn_protocols = vec![ALPN.to_vec()];
    Ok(configuration)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions<S: ConfigSide>(builder: ConfigBuilder<S, WantsVersions>) -> io::Result<ConfigBuilder<S, WantsVerifier>> {
    builder.with_safe_default_protocol_versions().map_err(io::Error::other)
}

fn chain(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(io::Error::other)
}

fn private(pem: &[u8]) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).map_err(io::Error::other)
}

fn roots(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in chain(pem)? {
        roots.add(root).map_err(io::Error::other)?;
    }
    Ok(roots)
}

/// The SPIFFE id of a verified certificate, by gRPC's rules: its one URI name, where that has the form of one. Otherwise
/// the empty string.
pub fn spiffe_id(certificate: &CertificateDer<'_>) -> String {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return String::new() };
    let mut names = parsed.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) if is_spiffe_id(name) => name.to_owned(),
        _ => String::new(),
    }
}

fn is_spiffe_id(name: &str) -> bool {
    let Some((domain, path)) = name.strip_prefix(SPIFFE).and_then(|rest| rest.split_once('/')) else { return false };
    name.len() <= MOST_SPIFFE_BYTES && domain.len() <= MOST_DOMAIN_BYTES && !path.is_empty() && !path.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_have_a_domain_and_a_path() {
        assert!(is_spiffe_id("spiffe://example.org/service/crypto"));
        for name in ["https://example.org/a", "spiffe://example.org", "spiffe://example.org/", "spiffe://a//b"] {
            assert!(!is_spiffe_id(name), "{name}");
        }
        assert!(!is_spiffe_id(&format!("spiffe://{}/a", "d".repeat(256))));
        assert!(!is_spiffe_id(&format!("spiffe://d/{}", "a".repeat(2_048))));
    }
}
