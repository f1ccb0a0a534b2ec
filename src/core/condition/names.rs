//! The names that a condition may use, and those that other languages have for the same.
pub(super) const REFERENCES: &str = "key, payload, value.FIELD, header.NAME, topic, partition, offset, timestamp";
/// What others call them.
pub(super) const SYNONYMS: [(&str, &str); 12] = [
    ("exists", "has"),
    ("defined", "has"),
    ("int", "number"),
    ("float", "number"),
    ("double", "number"),
    ("len", "length"),
    ("size", "length"),
    ("startswith", "starts_with"),
    ("endswith", "ends_with"),
    ("regex", "matches"),
    ("tolower", "lower"),
    ("includes", "contains"),
];
/// How others write that there is nothing.
pub(super) const NOTHING: [&str; 4] = ["null", "nil", "none", "undefined"];
pub(super) const FUNCTIONS: &str = "has(FIELD), number(FIELD), abs(NUMBER), length(TEXT), lower(TEXT), contains(TEXT, PART), starts_with(TEXT, PART), \
                         ends_with(TEXT, PART), matches(TEXT, 'PATTERN')";
/// The names that can begin an operand, and those of the functions.
pub(super) const OPERANDS: [&str; 11] = ["key", "payload", "value", "header", "topic", "partition", "offset", "timestamp", "not", "true", "false"];
pub(super) const CALLED: [&str; 9] = ["has", "number", "abs", "length", "lower", "contains", "starts_with", "ends_with", "matches"];
