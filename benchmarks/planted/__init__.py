"""Models whose faults are known, because they were planted: what an audit is measured with."""
