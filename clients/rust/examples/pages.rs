//! The program of the client's README. tests/unit/tools/test_language_pages.py holds that to this file, which is compiled
//! with the client.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;

use strongroom::encryption::{DataKeyCache, EncryptionClient};
use strongroom::{Client, Context, Credentials, Service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    encrypt_elsewhere(io::stdin(), Path::new("message"), Context::new()).await
}

async fn encrypt_elsewhere(mut source: impl io::Read, path: &Path, context: Context) -> Result<(), Box<dyn Error>> {
    let client = Client::builder()
        .endpoint(Service::Crypto, "kms-1.example.com:7111,kms-2.example.com:7111")
        .endpoint(Service::Keystore, "kms-1.example.com:7101,kms-2.example.com:7101")
        .trust("/etc/strongroom/authority.pem")
        .credentials(Credentials::ClientKeySession {
            name: "accounts/main/clientKeys/…".into(),
            secret_file: "/run/secrets/strongroom".into(),
        })
        .account("main")
        .build();
    let encryption = EncryptionClient::builder(client).key("payments").cache(DataKeyCache::default()).build()?;
    let mut writer = encryption.encrypting_writer(File::create(path)?, &context).await?;
    io::copy(&mut source, &mut writer)?;
    writer.finish()?;
    Ok(())
}
