//! Messages that are read anywhere, in constant memory.

use std::io::{self, Read, Seek, SeekFrom};

use super::body::{ChunkCipher, Layout};

/// The content of the message in `R`, which is read anywhere, in constant memory.
///
/// That nothing is missing was verified when it was opened, by the last chunk; each chunk is verified when it is read. The
/// reason of a refusal is in [`crate::Error::within`].
pub struct DecryptingFile<R> {
    input: R,
    cipher: ChunkCipher,
    layout: Layout,
    chunk_size: usize,
    /// Where the chunks begin.
    start: u64,
    /// What was read last, for reads that go on in it.
    chunk: Vec<u8>,
    number: Option<u64>,
    at: u64,
}

impl<R: Read + Seek> DecryptingFile<R> {
    /// Takes what stands from here to the end of `input` for the chunks.
    pub(super) fn new(mut input: R, cipher: ChunkCipher, chunk_size: usize) -> io::Result<Self> {
        let start = input.stream_position()?;
        let layout = Layout::of(input.seek(SeekFrom::End(0))?.saturating_sub(start), chunk_size)?;
        let last = layout.chunks - 1;
        let mut file = Self { input, cipher, layout, chunk_size, start, chunk: Vec::new(), number: None, at: 0 };
        file.load(last)?;
        Ok(file)
    }

    fn load(&mut self, number: u64) -> io::Result<()> {
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = None;
        let (offset, size) = self.layout.sealed_range(number, self.chunk_size);
        self.input.seek(SeekFrom::Start(self.start + offset))?;
        self.chunk.clear();
        (&mut self.input).take(size).read_to_end(&mut self.chunk)?;
        let opened = self.cipher.open(number, number + 1 == self.layout.chunks, &mut self.chunk)?;
        self.chunk.truncate(opened);
        self.number = Some(number);
        Ok(())
    }
}

impl<R> DecryptingFile<R> {
    /// How many bytes the content has, verified.
    pub fn size(&self) -> u64 {
        self.layout.content_bytes
    }
}

impl<R: Read + Seek> Read for DecryptingFile<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.at >= self.size() {
            return Ok(0);
        }
        let chunk_size = self.chunk_size as u64;
        self.load(self.at / chunk_size)?;
        let there = &self.chunk[(self.at % chunk_size) as usize..];
        let given = into.len().min(there.len());
        into[..given].copy_from_slice(&there[..given]);
        self.at += given as u64;
        Ok(given)
    }
}

impl<R> Seek for DecryptingFile<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        let nowhere = || io::Error::new(io::ErrorKind::InvalidInput, "there is no such place in the content");
        self.at = place.ok_or_else(nowhere)?;
        Ok(self.at)
    }
}
