//! Messages that are written and read piece by piece, in constant memory.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::body::{ChunkCipher, TAG_BYTES};
use super::cache::Spent;
use super::refusals::altered;
use crate::Error;

/// Content is written to it, and its message goes to `W`, chunk by chunk.
///
/// [`EncryptingWriter::finish`] writes the end. Without it, or after an error, the message is left cut off, and every
/// reader refuses it.
pub struct EncryptingWriter<W> {
    output: W,
    cipher: ChunkCipher,
    head: Vec<u8>,
    content: Vec<u8>,
    chunk_size: usize,
    spent: Arc<Spent>,
    number: u64,
    broken: bool,
}

impl<W: Write> EncryptingWriter<W> {
    pub(super) fn new(output: W, head: Vec<u8>, cipher: ChunkCipher, chunk_size: usize, spent: Arc<Spent>) -> Self {
        let content = Vec::with_capacity(chunk_size + TAG_BYTES);
        Self { output, cipher, head, content, chunk_size, spent, number: 0, broken: false }
    }

    /// Writes the end of the message; answers what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the message has ended with an error"));
        }
        // Until all of it is written: a writer that failed halfway must not go on as if nothing had happened.
        self.broken = true;
        self.output.write_all(&std::mem::take(&mut self.head))?;
        self.spent.add(self.content.len() as u64);
        let tag = self.cipher.seal(self.number, last, &mut self.content)?;
        self.content.extend_from_slice(&tag);
        self.output.write_all(&self.content)?;
        self.content.clear();
        self.number += 1;
        self.broken = false;
        Ok(())
    }
}

impl<W: Write> Write for EncryptingWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // A full chunk waits: only what comes behind it says that it is not the last.
        if self.content.len() == self.chunk_size && !data.is_empty() {
            self.seal(false)?;
        }
        let taken = data.len().min(self.chunk_size - self.content.len());
        self.content.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The content of the message in `R`, chunk by chunk.
///
/// Each chunk is verified before it is handed out, and that none is missing when the end is reached: keep what you read
/// aside until then. The reason of a refusal is in [`Error::within`]; it stays, however often it is read again.
pub struct DecryptingReader<R> {
    input: R,
    cipher: ChunkCipher,
    sealed_size: usize,
    /// A chunk and one byte more: whether there is one says whether the chunk is the last.
    held: Vec<u8>,
    content: Vec<u8>,
    at: usize,
    number: u64,
    ended: bool,
    refusal: Option<Error>,
}

impl<R: Read> DecryptingReader<R> {
    pub(super) fn new(input: R, cipher: ChunkCipher, chunk_size: usize) -> Self {
        Self {
            input,
            cipher,
            sealed_size: chunk_size + TAG_BYTES,
            held: Vec::new(),
            content: Vec::new(),
            at: 0,
            number: 0,
            ended: false,
            refusal: None,
        }
    }

    fn open_next(&mut self) -> io::Result<()> {
        // Room is taken as bytes come, not as the header claims.
        let wanted = (self.sealed_size + 1).saturating_sub(self.held.len());
        (&mut self.input).take(wanted as u64).read_to_end(&mut self.held)?;
        let last = self.held.len() <= self.sealed_size;
        let behind = self.held.split_off(self.held.len().min(self.sealed_size));
        self.content = std::mem::replace(&mut self.held, behind);
        self.at = self.content.len();
        // One content has one encoding: an empty chunk is for an empty message alone.
        if last && self.content.len() == TAG_BYTES && self.number > 0 {
            return Err(altered().into());
        }
        let size = self.cipher.open(self.number, last, &mut self.content)?;
        self.content.truncate(size);
        self.at = 0;
        self.number += 1;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for DecryptingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.content.len() && !self.ended && !into.is_empty() {
            if let Some(refusal) = &self.refusal {
                return Err(refusal.clone().into());
            }
            if let Err(error) = self.open_next() {
                self.refusal = Error::within(&error).cloned();
                return Err(error);
            }
        }
        let given = into.len().min(self.content.len() - self.at);
        into[..given].copy_from_slice(&self.content[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}
