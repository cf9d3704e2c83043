//! A zlib stream that a viewer reads piece by piece: each piece is complete, with its length before it.
//!
//! It counts on zlib's rule that room that is left says that all is out. Of flate2's compressors zlib-rs keeps it;
//! with miniz_oxide a flush can end with room left and bytes held back, and viewers lose the stream.

use flate2::{Compress, Compression, FlushCompress};

/// Room that is made for the compressor's output at a time, bytes.
const PIECE: usize = 16 << 10;

/// How hard the compressor tries: someone waits.
const LEVEL: u32 = 2;

/// The compressor and its window.
#[derive(Debug)]
pub(super) struct Stream(Compress);

impl Default for Stream {
    fn default() -> Self {
        Stream(Compress::new(Compression::new(LEVEL), true))
    }
}

impl Stream {
    /// Appends `bytes` as a piece.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        let before = self.0.total_in();
        loop {
            out.reserve(PIECE);
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            let rest = bytes.get(taken..).unwrap_or_default();
            let done = self.0.compress_vec(rest, out, FlushCompress::Sync);
            // It fails only when its own calls come in a wrong order.
            if done.is_err() || out.len() < out.capacity() {
                break;
            }
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(head) = out.get_mut(start..start + 4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};

    /// Bytes that repeat as little as a photograph's.
    fn noise(length: usize) -> Vec<u8> {
        let mut seed = 1u32;
        let next = |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        };
        (0..length).map(next).collect()
    }

    /// Writes a piece behind others and reads it as a viewer does.
    fn pass(stream: &mut Stream, viewer: &mut Decompress, bytes: &[u8]) {
        let mut out = vec![7; bytes.len() % 11];
        stream.write(bytes, &mut out);
        let (head, piece) = out[bytes.len() % 11..].split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*head) as usize, piece.len());
        let mut got = Vec::with_capacity(bytes.len() + 1);
        viewer.decompress_vec(piece, &mut got, FlushDecompress::Sync).unwrap();
        assert!(got == bytes, "{} of {} bytes came", got.len(), bytes.len());
    }

    #[test]
    fn a_piece_of_a_photograph_is_complete_when_it_is_sent() {
        // Lengths at which miniz_oxide held some back; its buffers are about as long.
        for length in (31_700..32_000).chain(63_500..63_800).step_by(20) {
            pass(&mut Stream::default(), &mut Decompress::new(true), &noise(length));
        }
    }

    #[test]
    fn pieces_of_every_length_go_on_in_one_stream() {
        let (mut stream, mut viewer) = (Stream::default(), Decompress::new(true));
        for length in (0..300).chain((1..40).map(|n| n * 5_003)) {
            pass(&mut stream, &mut viewer, &noise(length));
        }
    }
}
