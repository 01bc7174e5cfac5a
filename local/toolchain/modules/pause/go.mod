module llm-serving.local/toolchain/pause

go 1.26
