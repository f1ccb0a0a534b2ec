//! A byte string of a reply: in place where it is short, which statuses and stream ids are; else on the heap.
use std::fmt;
use std::ops::Deref;

/// The most that stands in place. With it a [`super::reply::Reply`] takes 32 bytes.
pub const SHORT_MAX: usize = 24;

/// See the module's documentation.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Short { len: u8, bytes: Bytes },
    Long(Box<[u8]>),
}

/// Aligned, so that a reply is moved in words.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Bytes([u8; SHORT_MAX]);

impl Text {
    /// At most [`SHORT_MAX`] bytes, known when this is compiled.
    pub const fn constant(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        let mut i = 0;
        while i < text.len() {
            bytes[i] = text[i];
            i += 1;
        }
        #[allow(clippy::cast_possible_truncation, reason = "an index above SHORT_MAX did not compile")]
        Self(Repr::Short { len: text.len() as u8, bytes: Bytes(bytes) })
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes.0[..usize::from(*len)],
            Repr::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Text {
    #[inline]
    fn from(text: &[u8]) -> Self {
        match u8::try_from(text.len()) {
            Ok(len) if text.len() <= SHORT_MAX => {
                let mut bytes = [0; SHORT_MAX];
                bytes[..text.len()].copy_from_slice(text);
                Self(Repr::Short { len, bytes: Bytes(bytes) })
            }
            _ => Self(Repr::Long(text.into())),
        }
    }
}

impl From<Vec<u8>> for Text {
    fn from(text: Vec<u8>) -> Self {
        if text.len() <= SHORT_MAX { Self::from(text.as_slice()) } else { Self(Repr::Long(text.into_boxed_slice())) }
    }
}

impl<const N: usize> From<&[u8; N]> for Text {
    fn from(text: &[u8; N]) -> Self {
        Self::from(text.as_slice())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

/// As text, where it is one.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self), f)
    }
}

/// Like any bytes, whether in place or on the heap.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Text {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Eq for Text {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reply::Reply;

    #[test]
    fn bytes_of_any_length_come_back_as_they_were() {
        for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 300] {
            let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            assert_eq!(*Text::from(bytes.as_slice()), *bytes);
            assert_eq!(Text::from(bytes.clone()), Text::from(bytes.as_slice()));
            assert_ne!(Text::from(bytes.as_slice()), [bytes.as_slice(), b"x"].concat());
        }
        assert_eq!(Text::constant(b"QUEUED"), b"QUEUED");
    }

    #[test]
    fn a_reply_is_half_a_cache_line() {
        assert_eq!(size_of::<Reply>(), 32);
    }
}
