//! What the bridge reads of librdkafka's statistics. They tell some sixty figures of each partition, as text: with thousands of
//! partitions to take all of them in costs more than all else that an idle bridge does.
use rdkafka::statistics::ConsumerGroup;
use serde::Deserialize;
use std::collections::HashMap;

/// The statistics of a consumer.
#[derive(Clone, Debug, Deserialize)]
pub struct Statistics {
    pub brokers: HashMap<String, Broker>,
    pub topics: HashMap<String, Topic>,
    /// The group, as its member sees it.
    pub cgrp: Option<ConsumerGroup>,
}

/// A broker.
#[derive(Clone, Debug, Deserialize)]
pub struct Broker {
    pub name: String,
    pub state: String,
    #[serde(default)]
    pub req: Requests,
}

/// How many requests of a kind were sent to a broker.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Requests {
    #[serde(default, rename = "SyncGroup")]
    pub sync_group: i64,
}

/// A topic of which there are partitions here.
#[derive(Clone, Debug, Deserialize)]
pub struct Topic {
    pub partitions: HashMap<i32, Partition>,
}

/// A partition; -1 is librdkafka's own, for what belongs to none.
#[derive(Clone, Debug, Deserialize)]
pub struct Partition {
    pub fetch_state: String,
    pub hi_offset: i64,
    pub ls_offset: i64,
}
