//! Encrypts standard input to standard output, or decrypts it, as the current profile's caller:
//!
//!     crypt encrypt|decrypt --key KEY… [--context NAME=VALUE…] [--store-context]
//!
//! A refusal is exit status 1, and its stable reason the first word on standard error.

use std::env;
use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use strongroom::encryption::EncryptionClient;
use strongroom::{Client, Context, Error};

const USAGE: &str = "USAGE: crypt encrypt|decrypt --key KEY… [--context NAME=VALUE…] [--store-context]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let within = error.downcast_ref::<io::Error>().and_then(Error::within);
            eprintln!("{}", within.map_or_else(|| error.to_string(), ToString::to_string));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn StdError>> {
    let mut arguments = env::args().skip(1);
    let verb = arguments.next().ok_or(USAGE)?;
    let mut builder = EncryptionClient::builder(Client::from_profile("")?);
    let mut context = None;
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--key" => builder = builder.key(&arguments.next().ok_or(USAGE)?),
            "--store-context" => builder = builder.store_context(true),
            "--context" => {
                let pair = arguments.next().ok_or(USAGE)?;
                let (name, value) = pair.split_once('=').ok_or(USAGE)?;
                context.get_or_insert_with(Context::new).insert(name.into(), value.into());
            }
            _ => return Err(USAGE.into()),
        }
    }
    let encryption = builder.build()?;
    match verb.as_str() {
        "encrypt" => {
            let mut writer = encryption.encrypting_writer(io::stdout(), &context.unwrap_or_default()).await?;
            io::copy(&mut io::stdin(), &mut writer)?;
            writer.finish()?;
        }
        "decrypt" => {
            let mut reader = encryption.decrypting_reader(io::stdin(), context.as_ref()).await?;
            io::copy(&mut reader, &mut io::stdout())?;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
