//! Dead letters, read back from the stream.
use super::redis_server::RedisServer;
use std::collections::BTreeMap;

/// One letter's fields, as bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Letter(BTreeMap<String, Vec<u8>>);

impl Letter {
    pub(crate) fn bytes(&self, field: &str) -> Option<&[u8]> {
        self.0.get(field).map(Vec::as_slice)
    }

    pub(crate) fn text(&self, field: &str) -> String {
        String::from_utf8_lossy(self.bytes(field).unwrap_or_default()).into_owned()
    }
}

/// All letters of a stream, oldest first.
pub(crate) fn read(redis: &RedisServer, stream: &str) -> Vec<Letter> {
    redis.entries(stream).into_iter().map(|(_, fields)| Letter(fields.into_iter().collect())).collect()
}
