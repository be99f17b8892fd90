# For demonstrations and tests only: releases resources to simulated enclaves that run registered
# code. A simulated enclave is an ordinary process; its host reads whatever is released to it.
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	count(input.submods) == 1
	every submod in input.submods {
		submod["ear.veraison.annotated-evidence"]["sgx-sim"]
		submod["ear.trustworthiness-vector"].executables in numbers.range(2, 31)
	}
}
