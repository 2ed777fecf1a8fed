//! TLS from files that may be replaced while the service runs.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

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

/// PEM files: a certificate chain, its key, and whom clients' certificates chain to.
pub struct Files {
    paths: [PathBuf; 3],
    client: ClientCertificate,
    current: Mutex<(Stamps, Arc<ServerConfig>)>,
}

type Stamps = [(i64, i64, u64); 3];

impl Files {
    /// Reads the files.
    pub fn read(paths: [PathBuf; 3], client: ClientCertificate) -> io::Result<Self> {
        let current = (stamps(&paths)?, configuration(&paths, client)?);
        Ok(Self { paths, client, current: Mutex::new(current) })
    }

    /// What the files hold now. While a replacement is half done, what they held before.
    pub fn current(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(stamps) = stamps(&self.paths) {
            if stamps != current.0 {
                if let Ok(read) = configuration(&self.paths, self.client) {
                    *current = (stamps, read);
                }
            }
        }
        current.1.clone()
    }
}

fn stamps(paths: &[PathBuf; 3]) -> io::Result<Stamps> {
    let mut stamps = [(0, 0, 0); 3];
    for (stamp, path) in stamps.iter_mut().zip(paths) {
        let found = path.metadata()?;
        *stamp = (found.mtime(), found.mtime_nsec(), found.ino());
    }
    Ok(stamps)
}

fn configuration(paths: &[PathBuf; 3], client: ClientCertificate) -> io::Result<Arc<ServerConfig>> {
    let [certificate, key, trust] = paths;
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if client == ClientCertificate::None {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(trust).map_err(io::Error::other)? {
            roots.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = if client == ClientCertificate::Optional { verifier.allow_unauthenticated() } else { verifier };
        builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
    };
    // Refuses a key that is not the certificate's.
    let mut configuration = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
    configuration.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(configuration))
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
