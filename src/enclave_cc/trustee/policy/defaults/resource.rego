# Who may have a resource until the owner says otherwise: enclaves on genuine hardware that run
# registered code, outside of debug mode. Evidence without protection is refused by name.
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	count(input.submods) > 0
	every submod in input.submods {
		acceptable(submod)
	}
}

acceptable(submod) if {
	submod["ear.status"] in {"affirming", "warning"}
	submod["ear.trustworthiness-vector"].executables in numbers.range(2, 31)
	evidence := submod["ear.veraison.annotated-evidence"]
	evidence.sgx.debug == false
	not evidence["sgx-sim"]
	not evidence.sample
}
