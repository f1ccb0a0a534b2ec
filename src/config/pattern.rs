//! Topic patterns: librdkafka reads them as POSIX extended regular expressions, the bridge as the regex crate's. Only
//! what both read alike is allowed.
use regex_syntax::ast::{self, AssertionKind, Ast, ClassSetItem, GroupKind, LiteralKind, RepetitionKind, RepetitionRange};

/// What is allowed, for messages.
pub(super) const ALLOWED: &str = "a regular expression of what a topic's name has (letters, digits, \\., -, _), \".\", \"(a|b)\", \"[a-z0-9._-]\", \
                                  \"[[:alpha:]]\", \"*\", \"+\", \"?\", \"{2,5}\", \"^\" at its beginning and \"$\"";

/// What POSIX has as the most that a repetition may count.
const REPEAT_MAX: u32 = 255;

/// Compiles a pattern.
///
/// # Errors
/// What of it the two read differently, or why it is no pattern.
pub(super) fn parse(text: &str) -> Result<regex::Regex, String> {
    let tree = ast::parse::Parser::new().parse(text).map_err(|e| e.kind().to_string())?;
    let shown = |span: &ast::Span| format!("{:?}", &text[span.start.offset..span.end.offset]);
    alike(&tree, text).map_err(|span| shown(&span))?;
    regex::Regex::new(text).map_err(|e| e.to_string())
}

/// What is not read alike.
fn alike(tree: &Ast, text: &str) -> Result<(), ast::Span> {
    let fits = match tree {
        Ast::Dot(_) => true,
        Ast::Literal(literal) => literal_fits(literal),
        Ast::Assertion(a) => matches!((&a.kind, a.span.start.offset), (AssertionKind::StartLine, 0) | (AssertionKind::EndLine, _)),
        Ast::ClassBracketed(class) => {
            let inside = &text[class.span.start.offset..class.span.end.offset];
            let ast::ClassSet::Item(item) = &class.kind else { return Err(class.span) };
            !inside.contains('\\') && items(item).iter().all(|i| item_fits(i))
        }
        Ast::Repetition(repetition) => {
            let once = matches!(&*repetition.ast, Ast::Dot(_) | Ast::Literal(_) | Ast::ClassBracketed(_) | Ast::Group(_));
            alike(&repetition.ast, text)?;
            once && repetition.greedy && repeats(&repetition.op.kind)
        }
        Ast::Group(group) => {
            alike(&group.ast, text)?;
            matches!(group.kind, GroupKind::CaptureIndex(_))
        }
        Ast::Alternation(alternation) => return alternation.asts.iter().try_for_each(|a| alike(a, text)),
        Ast::Concat(concat) => return concat.asts.iter().try_for_each(|a| alike(a, text)),
        Ast::Empty(_) | Ast::Flags(_) | Ast::ClassUnicode(_) | Ast::ClassPerl(_) => false,
    };
    if fits { Ok(()) } else { Err(*tree.span()) }
}

fn in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// As itself, or a dot or hyphen behind a backslash.
fn literal_fits(literal: &ast::Literal) -> bool {
    match literal.kind {
        LiteralKind::Verbatim => in_a_name(literal.c),
        LiteralKind::Meta | LiteralKind::Superfluous => ".-".contains(literal.c),
        _ => false,
    }
}

fn items(item: &ClassSetItem) -> Vec<&ClassSetItem> {
    if let ClassSetItem::Union(union) = item { union.items.iter().collect() } else { vec![item] }
}

fn item_fits(item: &ClassSetItem) -> bool {
    match item {
        ClassSetItem::Literal(literal) => in_a_name(literal.c),
        ClassSetItem::Range(range) => [&range.start, &range.end].iter().all(|l| l.c.is_ascii_alphanumeric()),
        // [:word:] is no class of POSIX.
        ClassSetItem::Ascii(class) => !class.negated && class.kind != ast::ClassAsciiKind::Word && class.kind != ast::ClassAsciiKind::Ascii,
        _ => false,
    }
}

fn repeats(kind: &RepetitionKind) -> bool {
    match kind {
        RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => true,
        RepetitionKind::Range(RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n)) => *n <= REPEAT_MAX,
        RepetitionKind::Range(RepetitionRange::Bounded(_, n)) => *n <= REPEAT_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_dialects_read_alike_is_taken() {
        for fine in ["^volatility\\..*", "^a$", "^(a|b)-[0-9]+$", "^[^a-z]x{2,3}", "^[[:alpha:]._-]+", "^a\\-b?", "^ticks_.*_v[12]$"] {
            assert!(parse(fine).is_ok(), "{fine}: {:?}", parse(fine));
        }
    }

    #[test]
    fn what_they_read_differently_is_refused_and_named() {
        for (bad, named) in [
            ("^\\d+", "\\\\d"),
            ("^\\Dx", "\\\\D"),
            ("^\\w", "\\\\w"),
            ("^(?:a|b)", "(?:a|b)"),
            ("^(?i)a", "(?i)"),
            ("^a+?", "a+?"),
            ("^a**", "a**"),
            ("^a|^b", "^"),
            ("^(a|)", ""),
            ("^[\\d]", "\\\\d"),
            ("^[a&&b]", "a&&b"),
            ("^[[a]b]", "[a]"),
            ("^[]a]", "]a]"),
            ("^\\bx", "\\\\b"),
            ("^a%", "%"),
            ("^\u{e9}", "\u{e9}"),
            ("^\\x41", "\\\\x41"),
            ("^\\pL", "\\\\pL"),
            ("^a{256}", "{256}"),
            ("^[[:word:]]", "[:word:]"),
            ("^(?=a)", "look-around"),
            ("^(a", "unclosed"),
        ] {
            let why = parse(bad).expect_err(bad);
            assert!(why.contains(named), "{bad}: {why}");
        }
    }
}
