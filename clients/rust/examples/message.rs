//! Encrypts and decrypts a message under a key of the mesh that the current profile names.

use strongroom::contracts::strongroom::keystore::v1 as keystore;
use strongroom::encryption::{DataKeyCache, EncryptionClient};
use strongroom::{Channel, Client, Context, Error, Service};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_profile("")?;
    create_key(&client, "payments").await?;
    let encryption = EncryptionClient::builder(client).key("payments").cache(DataKeyCache::default()).build()?;
    let context = Context::from([("tenant".into(), "a".into())]);
    let message = encryption.encrypt(b"attack at dawn", &context).await?;
    let content = encryption.decrypt(&message, Some(&context)).await?;
    println!("{} bytes hold: {}", message.len(), String::from_utf8_lossy(&content));
    Ok(())
}

async fn create_key(client: &Client, id: &str) -> Result<(), Error> {
    let parent = client.account_name()?;
    let request = keystore::CreateKeyRequest { parent, key_id: id.into(), ..Default::default() };
    let create = |channel: Channel| {
        let request = request.clone();
        async move { keystore::key_service_client::KeyServiceClient::new(channel).create_key(request).await }
    };
    match client.call(Service::Keystore, create).await {
        Err(error) if error.reason != "ALREADY_EXISTS" => Err(error),
        _ => Ok(()),
    }
}
