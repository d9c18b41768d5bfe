//! What types are called: as SQL does, not as Arrow does.

use datafusion::arrow::datatypes::{DataType, TimeUnit};

/// The name of a type in SQL, as PostgreSQL has it; of one that SQL has not, Arrow's.
pub fn type_name(kind: &DataType) -> String {
    let name = match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Boolean => "boolean",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::UInt16 => "smallint unsigned",
        DataType::UInt32 => "integer unsigned",
        DataType::UInt64 => "bigint unsigned",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Interval(_) | DataType::Duration(TimeUnit::Nanosecond) => "interval",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("numeric({precision},{scale})"),
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_sql() {
        for (kind, name) in [
            (DataType::Utf8, "text"),
            (DataType::UInt64, "bigint unsigned"),
            (DataType::Decimal128(38, 10), "numeric(38,10)"),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())), "timestamp with time zone"),
            (DataType::Null, "Null"),
        ] {
            assert_eq!(type_name(&kind), name);
        }
    }
}
