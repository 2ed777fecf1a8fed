//! Bytes that are read field by field, and must end where the last field does.

use super::refusals::altered;
use crate::Error;

pub(super) struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { left: data }
    }

    /// The next number, of 1 or 2 bytes.
    pub(super) fn number(&mut self, size: usize) -> Result<usize, Error> {
        Ok(self.take(size)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// The next `size` bytes.
    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], Error> {
        let (taken, left) = self.left.split_at_checked(size).ok_or_else(altered)?;
        self.left = left;
        Ok(taken)
    }

    /// Fails unless every byte was taken.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.left.is_empty() { Ok(()) } else { Err(altered()) }
    }
}
